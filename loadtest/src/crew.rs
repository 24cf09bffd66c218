//! The workers, seen from the coordinator.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};
use mio::Waker;

use crate::worker::{Command, Reply, Setup, Worker};

/// A worker that says nothing for this long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

struct Member {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

/// All workers.
pub(crate) struct Crew {
    members: Vec<Member>,
    replies: Receiver<Reply>,
}

impl Crew {
    /// Starts `workers` threads that share the connections of `setup`.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn start(workers: usize, setup: &Setup) -> anyhow::Result<Self> {
        let (send, replies) = channel();
        let mut members = Vec::new();
        let mut before = 0;
        for number in 0..workers {
            let share = setup.connections / workers + usize::from(number < setup.connections % workers);
            let setup = Setup { connections: share, before, ..setup.clone() };
            before += share;
            let (worker, waker) = Worker::new(number, setup, send.clone()).context("cannot make a poll")?;
            let (commands, inbox) = channel();
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            let thread = thread.spawn(move || worker.run(&inbox)).context("cannot start a thread")?;
            members.push(Member { commands, waker, thread: Some(thread) });
        }
        Ok(Self { members, replies })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Tells each worker something, by its number.
    pub(crate) fn tell(&self, command: impl Fn(usize) -> Command) {
        for (number, member) in self.members.iter().enumerate() {
            // One that has ended is found out by the next question.
            let _ = member.commands.send(command(number));
            let _ = member.waker.wake();
        }
    }

    /// Asks all of them for what they measured since they were last asked, by [`Command::Report`] or
    /// [`Command::Review`].
    ///
    /// # Errors
    /// A worker has ended, or hangs.
    pub(crate) fn ask(&mut self, question: fn() -> Command) -> anyhow::Result<Vec<Reply>> {
        self.tell(|_| question());
        let mut replies = Vec::with_capacity(self.members.len());
        let mut waited = Duration::ZERO;
        let step = Duration::from_millis(200);
        while replies.len() < self.members.len() {
            match self.replies.recv_timeout(step) {
                Ok(reply) => replies.push(reply),
                Err(RecvTimeoutError::Disconnected) => bail!("the workers have ended: {}", self.ended()),
                Err(RecvTimeoutError::Timeout) => {
                    waited += step;
                    let ended = self.members.iter().any(|m| m.thread.as_ref().is_none_or(JoinHandle::is_finished));
                    if ended {
                        bail!("a worker has ended: {}", self.ended());
                    }
                    if waited > PATIENCE {
                        bail!("a worker says nothing");
                    }
                }
            }
        }
        Ok(replies)
    }

    /// Why, of the first that has.
    fn ended(&mut self) -> String {
        let finished = |member: &mut Member| member.thread.take_if(|thread| thread.is_finished());
        match self.members.iter_mut().find_map(finished).map(JoinHandle::join) {
            Some(Ok(Err(error))) => error.to_string(),
            Some(Err(_)) => "it panicked".to_owned(),
            _ => "for no reason it told".to_owned(),
        }
    }
}

impl Drop for Crew {
    /// Closes all connections and waits until the servers have closed theirs, a second at most.
    fn drop(&mut self) {
        self.tell(|_| Command::Stop);
        for thread in self.members.iter_mut().filter_map(|member| member.thread.take()) {
            // How it ended no longer matters.
            let _ = thread.join();
        }
    }
}
