//! What is counted: the bodies of [`publish`] and [`deliver`], not what prepares them.

// The macros write items of their own, without a word about them.
#![allow(missing_docs, unreachable_pub, reason = "made by macros")]

use std::hint::black_box;
use std::io::IoSlice;

use gungraun::{library_benchmark, library_benchmark_group, main};

use crate::support::engine::Engine;

/// Small, so that what is counted is the engine and not the C library's `memcpy`, whose variant the
/// processor decides: with and without AVX2 the counts are 0.1 % apart.
const PAYLOAD: usize = 128;

/// Nothing waits. Thread locals and lazily bound symbols are there.
fn idle(subscribers: usize) -> Engine {
    let mut engine = Engine::new(subscribers, PAYLOAD);
    for _ in 0..3 {
        engine.publish();
        engine.discard();
    }
    engine
}

/// Nothing was looked at for a ring's worth of messages.
fn lagging(subscribers: usize) -> Engine {
    Engine::lagging(subscribers, PAYLOAD)
}

/// One frame waits for all.
fn published(subscribers: usize) -> Engine {
    let engine = idle(subscribers);
    engine.publish();
    engine
}

#[library_benchmark]
#[bench::to_0(args = (0), setup = idle)]
#[bench::to_1(args = (1), setup = idle)]
#[bench::to_1000(args = (1_000), setup = idle)]
#[bench::to_1000_lagging(args = (1_000), setup = lagging)]
fn publish(engine: Engine) -> Engine {
    black_box(&engine).publish();
    engine
}

// From the mark to what a vectored write takes.
#[library_benchmark]
#[bench::to_1(args = (1), setup = published)]
#[bench::to_1000(args = (1_000), setup = published)]
#[bench::to_20_bursts_of_50(args = (20), setup = lagging)]
fn deliver(mut engine: Engine) -> Engine {
    engine.deliver(|frame| {
        black_box(IoSlice::new(frame.wire()));
    });
    engine
}

library_benchmark_group!(name = engine, benchmarks = [publish, deliver]);

main!(library_benchmark_groups = engine);

/// What gungraun wants to be the program.
pub(crate) fn run() {
    main();
}
