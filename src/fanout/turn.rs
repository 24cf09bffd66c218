//! Turns: one after another, without a lock and without waiting.

use super::sync::{AtomicBool, AtomicUsize, Ordering, SegQueue, thread};

/// How many operations may wait before a newcomer is asked to come back, and how many of others'
/// one thread runs in a row before it asks for that. More than publishers of one channel ever
/// collide; it bounds what a stalled thread can pile up and how long one thread serves the rest: at some
/// microseconds each.
pub(super) const MAX_PENDING: usize = 64;

/// Gives operations on one thing a single order. Whoever enters while nobody is inside runs its own
/// operation at once, in place, then those that arrived meanwhile; whoever enters while somebody
/// is inside leaves its operation there and goes on. No thread ever waits for another's turn.
///
/// Guarantees: operations run one at a time, each sees the effects of all earlier ones, and two
/// operations entered one after the other by the same thread run in that order. An operation must
/// not panic: it would leave nobody to run the rest.
///
/// Not strictly lock-free: a thread stalled between being counted and queueing its operation makes
/// the one inside spin for it.
#[derive(Debug)]
pub(super) struct Turn<T> {
    /// Operations counted and not yet run, the running one included. Zero: nobody is inside.
    ///
    /// Counted before it is queued, so zero means the queue is empty too; that is what keeps a
    /// thread's second operation from overtaking its first. AcqRel on both sides: the decrement
    /// publishes what an operation did, the increment that enters next acquires it.
    pending: AtomicUsize,
    queue: SegQueue<T>,
    /// The thread inside has run enough for others. A hint, relaxed.
    tired: AtomicBool,
}

impl<T> Turn<T> {
    pub(super) fn new() -> Self {
        Self { pending: AtomicUsize::new(0), queue: SegQueue::new(), tired: AtomicBool::new(false) }
    }

    /// Whether an operation that can come back later should.
    pub(super) fn is_busy(&self) -> bool {
        self.pending.load(Ordering::Relaxed) >= MAX_PENDING || self.tired.load(Ordering::Relaxed)
    }

    /// Has `operation` run in its turn: by this call before it returns, or by the thread inside.
    pub(super) fn enter(&self, operation: T, mut run: impl FnMut(T)) {
        if self.pending.fetch_add(1, Ordering::AcqRel) > 0 {
            self.queue.push(operation);
            return;
        }
        run(operation);
        let mut others = 0;
        while self.pending.fetch_sub(1, Ordering::AcqRel) > 1 {
            run(self.next());
            others += 1;
            if others == MAX_PENDING {
                self.tired.store(true, Ordering::Relaxed);
            }
        }
        if others >= MAX_PENDING {
            self.tired.store(false, Ordering::Relaxed);
        }
    }

    /// The next counted operation; its owner may still be about to queue it.
    fn next(&self) -> T {
        loop {
            match self.queue.pop() {
                Some(operation) => return operation,
                None => thread::yield_now(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn operations_run_one_at_a_time_and_in_each_threads_order() {
        const THREADS: usize = 4;
        const EACH: usize = 20_000;
        let turn = Turn::new();
        let inside = AtomicUsize::new(0);
        let ran = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (turn, inside, ran) = (&turn, &inside, &ran);
                scope.spawn(move || {
                    for n in 0..EACH {
                        turn.enter((thread, n), |operation| {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two inside at once");
                            ran.try_lock().expect("nobody else is inside").push(operation);
                            inside.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
        let ran = ran.into_inner().expect("no panic inside");
        assert_eq!(ran.len(), THREADS * EACH);
        for thread in 0..THREADS {
            assert!(ran.iter().filter(|(t, _)| *t == thread).map(|(_, n)| *n).eq(0..EACH));
        }
        assert!(!turn.is_busy());
    }
}
