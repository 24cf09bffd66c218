//! Where attacks take place: the target, the time, and how many begin when.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::attacks;
use crate::book::Book;
use crate::kind::{Kind, Pace};
use crate::options::Options;
use crate::peer::{End, PATIENCE, Peer};
use crate::wire;

/// How often it is looked whether somebody is due.
const TICK: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) address: SocketAddr,
    pub(crate) host: String,
    pub(crate) path: String,
    /// Nobody begins after it, and who is held open leaves.
    pub(crate) deadline: Instant,
    pub(crate) handshake_timeout: Duration,
    pub(crate) flood_limit: u64,
    rate: Option<f64>,
    pub(crate) random: RefCell<fastrand::Rng>,
    pub(crate) book: RefCell<Book>,
}

impl Stage {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            address: options.address,
            host: options.url.authority(),
            path: options.url.path.clone(),
            deadline: Instant::now() + options.duration,
            handshake_timeout: options.handshake_timeout,
            flood_limit: options.flood_limit,
            rate: options.rate,
            random: RefCell::new(fastrand::Rng::with_seed(options.seed)),
            book: RefCell::new(Book::new(&options.kinds)),
        }
    }

    /// A right handshake.
    pub(crate) fn handshake(&self) -> Vec<u8> {
        wire::handshake(&self.host, &self.path, "")
    }

    pub(crate) async fn connect(&self) -> Result<Peer, End> {
        Peer::connect(self.address, None).await
    }

    /// A client behind a right handshake.
    ///
    /// # Errors
    /// What became of it instead.
    pub(crate) async fn client(&self, kind: Kind) -> Result<Peer, End> {
        let mut peer = self.connect().await?;
        self.upgrade(kind, &mut peer).await?;
        Ok(peer)
    }

    pub(crate) async fn upgrade(&self, kind: Kind, peer: &mut Peer) -> Result<(), End> {
        peer.send(&self.handshake()).await?;
        self.upgraded(kind, peer).await
    }

    /// The answer to a right handshake: 101, or that there is no room.
    pub(crate) async fn upgraded(&self, kind: Kind, peer: &mut Peer) -> Result<(), End> {
        match peer.status(Instant::now() + PATIENCE).await? {
            101 => {
                self.book.borrow_mut().upgraded(kind);
                Ok(())
            }
            status => {
                if !matches!(status, 429 | 503) {
                    self.forbid(kind, &format!("a right handshake was answered with {status}"));
                }
                Err(End::Status(status))
            }
        }
    }

    /// The server did what it must not do.
    pub(crate) fn forbid(&self, kind: Kind, what: &str) {
        self.book.borrow_mut().forbid(kind, what);
    }

    /// Checks how a session ended that had to end. A reset may have destroyed the Close.
    pub(crate) fn judge(&self, kind: Kind, what: &str, end: End, codes: &[u16]) -> End {
        match end {
            End::Closed(code) if !codes.contains(&code) => {
                self.forbid(kind, &format!("{what}: Close {code}, expected {codes:?}"));
            }
            End::Timeout => self.forbid(kind, &format!("{what}: still connected after it had to be over")),
            _ => {}
        }
        end
    }
}

/// Attacks in one way until the deadline, and until the last of them is over.
pub(crate) async fn run(stage: Rc<Stage>, kind: Kind) {
    let Pace { per_second, at_once } = kind.pace();
    let per_second = stage.rate.unwrap_or(per_second);
    let open = Rc::new(Cell::new(0_usize));
    let (start, mut begun, mut missed) = (Instant::now(), 0_u64, 0_u64);
    while Instant::now() < stage.deadline {
        let due = (start.elapsed().as_secs_f64() * per_second) as u64 + 1;
        while begun + missed < due && open.get() < at_once {
            let (stage, open) = (Rc::clone(&stage), Rc::clone(&open));
            open.set(open.get() + 1);
            tokio::task::spawn_local(async move {
                stage.book.borrow_mut().opened(kind);
                let end = attacks::attack(&stage, kind, begun).await.unwrap_or_else(|end| end);
                stage.book.borrow_mut().ended(kind, end);
                open.set(open.get() - 1);
            });
            begun += 1;
        }
        // What there was no room for is not made up for in a burst.
        missed = due.saturating_sub(begun);
        tokio::time::sleep(TICK).await;
    }
    while open.get() > 0 {
        tokio::time::sleep(TICK).await;
    }
}
