//! A message handed from one thread to another by a flag that releases nothing: a race, which ThreadSanitizer
//! must find when it is run as `proofs/nightly.sh` runs it. Part of no crate.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

#[derive(Default)]
struct Slot {
    message: UnsafeCell<Vec<u8>>,
    ready: AtomicBool,
}

// SAFETY: none. With `Release` and `Acquire` it would be that `message` is written before `ready`, read after it.
unsafe impl Sync for Slot {}

fn main() {
    let slot = Arc::new(Slot::default());
    let publisher = {
        let slot = Arc::clone(&slot);
        thread::spawn(move || {
            // SAFETY: none, see above.
            unsafe { (*slot.message.get()).push(1) };
            slot.ready.store(true, Ordering::Relaxed);
        })
    };
    while !slot.ready.load(Ordering::Relaxed) {
        thread::yield_now();
    }
    // SAFETY: none, see above.
    let message = unsafe { (*slot.message.get()).clone() };
    publisher.join().expect("the publisher does not panic");
    assert_eq!(message, [1]);
}
