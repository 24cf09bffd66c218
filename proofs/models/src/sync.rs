//! Stand-ins for `src/fanout/sync.rs`: loom's atomics and fences, and for the queues, `ArcSwap`,
//! `OnceLock` and `Notify` objects that do each operation in one step.
//!
//! What is inside those crates is not proved here. A stand-in orders memory no more than the real one:
//! a pop need not find what was not pushed before it in the sense of "happens before", and acquires
//! what came before the pushes it sees; a `OnceLock` may be seen empty for some time after it is set.
//! `ArcSwap` and `Notify`, whose real operations are sequentially consistent, always see the newest.
//!
//! The state beside the atomics is in locks of the standard library, which loom does not see. Nothing may
//! switch threads while one is held, so no value is dropped under it.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

pub(super) use loom::sync::atomic::{AtomicU64, Ordering, fence};

/// loom takes a sequentially consistent access for one that acquires and releases. A fence before each such load
/// gives back what sequential consistency is used for: a store, then a load of something else.
macro_rules! atomic {
    ($name:ident, $value:ty) => {
        #[derive(Debug, Default)]
        pub(super) struct $name(loom::sync::atomic::$name);

        impl $name {
            pub(super) fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }

            pub(super) fn load(&self, ordering: Ordering) -> $value {
                if ordering == Ordering::SeqCst {
                    fence(Ordering::SeqCst);
                }
                self.0.load(ordering)
            }
        }

        impl Deref for $name {
            type Target = loom::sync::atomic::$name;

            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicUsize, usize);

/// `std::thread`.
pub(super) mod thread {
    pub(in super::super) use loom::thread::yield_now;
}

/// `tokio::task`.
pub(super) mod task {
    pub(in super::super) async fn yield_now() {
        loom::thread::yield_now();
    }
}

/// State of which loom knows nothing.
#[derive(Debug, Default)]
struct Untracked<T>(Mutex<T>);

impl<T> Untracked<T> {
    fn new(state: T) -> Self {
        Self(Mutex::new(state))
    }

    fn get(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where operations on one object take effect, one after the other.
#[derive(Debug, Default)]
struct Order(AtomicUsize);

impl Order {
    /// Sees everything before the operations that came before, shows everything to those that come after.
    fn step(&self) -> usize {
        self.0.fetch_add(1, Ordering::AcqRel)
    }
}

#[derive(Debug)]
struct Queue<T> {
    pushed: AtomicUsize,
    items: Untracked<VecDeque<(usize, T)>>,
}

impl<T> Queue<T> {
    fn new() -> Self {
        Self { pushed: AtomicUsize::new(0), items: Untracked::new(VecDeque::new()) }
    }

    /// Returns what gives way.
    fn push(&self, value: T, capacity: usize) -> Option<T> {
        let number = self.pushed.fetch_add(1, Ordering::AcqRel);
        let mut items = self.items.get();
        items.push_back((number, value));
        let displaced = if items.len() > capacity { items.pop_front() } else { None };
        drop(items);
        displaced.map(|(_, value)| value)
    }

    fn pop(&self) -> Option<T> {
        loop {
            // What another thread pushes meanwhile is seen, or not.
            let seen = self.pushed.load(Ordering::Acquire);
            let is_seen = |item: &(usize, T)| item.0 < seen;
            if !self.items.get().front().is_some_and(is_seen) {
                return None;
            }
            // Here it takes effect; that it acquires nothing leaves the load above to do so.
            self.pushed.fetch_add(0, Ordering::Relaxed);
            let mut items = self.items.get();
            if items.front().is_some_and(is_seen) {
                return items.pop_front().map(|(_, value)| value);
            }
        }
    }
}

/// `crossbeam_queue::ArrayQueue`.
#[derive(Debug)]
pub(super) struct ArrayQueue<T> {
    queue: Queue<T>,
    capacity: usize,
}

impl<T> ArrayQueue<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { queue: Queue::new(), capacity }
    }

    pub(super) fn force_push(&self, value: T) -> Option<T> {
        self.queue.push(value, self.capacity)
    }

    pub(super) fn pop(&self) -> Option<T> {
        self.queue.pop()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.items.get().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }
}

/// `crossbeam_queue::SegQueue`.
#[derive(Debug)]
pub(super) struct SegQueue<T>(Queue<T>);

impl<T> SegQueue<T> {
    pub(super) fn new() -> Self {
        Self(Queue::new())
    }

    pub(super) fn push(&self, value: T) {
        drop(self.0.push(value, usize::MAX));
    }

    pub(super) fn pop(&self) -> Option<T> {
        self.0.pop()
    }
}

/// `arc_swap::ArcSwap`. What `load` returns counts as a holder, as it does to those who swap.
#[derive(Debug, Default)]
pub(super) struct ArcSwap<T> {
    order: Order,
    value: Untracked<Arc<T>>,
}

impl<T> ArcSwap<T> {
    pub(super) fn load(&self) -> Arc<T> {
        self.load_full()
    }

    pub(super) fn load_full(&self) -> Arc<T> {
        // Acquires and does not release.
        self.order.0.fetch_add(0, Ordering::Acquire);
        Arc::clone(&self.value.get())
    }

    pub(super) fn swap(&self, value: Arc<T>) -> Arc<T> {
        self.order.step();
        std::mem::replace(&mut *self.value.get(), value)
    }

    pub(super) fn store(&self, value: Arc<T>) {
        drop(self.swap(value));
    }
}

/// `std::sync::OnceLock`.
#[derive(Debug)]
pub(super) struct OnceLock<T> {
    is_set: AtomicBool,
    value: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub(super) fn new() -> Self {
        Self { is_set: AtomicBool::new(false), value: std::sync::OnceLock::new() }
    }

    pub(super) fn get(&self) -> Option<&T> {
        self.is_set.load(Ordering::Acquire).then(|| self.value.get())?
    }

    pub(super) fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.is_set.store(true, Ordering::Release);
        Ok(())
    }
}

/// `tokio::sync::Notify`, for one task that waits for `notify_one`.
#[derive(Debug, Default)]
pub(super) struct Notify {
    order: Order,
    state: Untracked<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    permit: bool,
    /// Calls of `notify_waiters`.
    calls: u64,
    wakers: Vec<Waker>,
}

impl Notify {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn notify_one(&self) {
        self.wake(|waiting| waiting.permit = true);
    }

    pub(super) fn notify_waiters(&self) {
        self.wake(|waiting| waiting.calls += 1);
    }

    fn wake(&self, change: impl FnOnce(&mut Waiting)) {
        self.order.step();
        let mut waiting = self.state.get();
        change(&mut waiting);
        let wakers = std::mem::take(&mut waiting.wakers);
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn notified(&self) -> Notified<'_> {
        self.order.step();
        Notified { notify: self, calls: self.state.get().calls }
    }
}

/// `tokio::sync::futures::Notified`.
#[derive(Debug)]
pub(super) struct Notified<'a> {
    notify: &'a Notify,
    calls: u64,
}

impl Notified<'_> {
    pub(super) fn enable(self: Pin<&mut Self>) -> bool {
        self.poll_with(None).is_ready()
    }

    fn poll_with(&self, waker: Option<&Waker>) -> Poll<()> {
        self.notify.order.step();
        let mut waiting = self.notify.state.get();
        if waiting.calls != self.calls || std::mem::take(&mut waiting.permit) {
            return Poll::Ready(());
        }
        waiting.wakers.extend(waker.cloned());
        Poll::Pending
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.poll_with(Some(context.waker()))
    }
}
