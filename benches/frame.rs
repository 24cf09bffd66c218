//! A message framed, head and payload in one allocation, and made a numbered, shared frame. Beside it
//! the copy alone, which no frame that owns its bytes can do without, and a publish to nobody of a
//! message framed before.
//!
//! ```sh
//! cargo bench --bench frame
//! ```

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use tickcast::fanout::{Frame, Hub, Message};
use tickcast::metrics::ChannelCounters;

const SIZES: [usize; 4] = [128, 1 << 10, 10 << 10, 64 << 10];

fn main() {
    divan::main();
}

#[divan::bench(args = SIZES)]
fn encode(bencher: Bencher<'_, '_>, size: usize) {
    let (published, counters) = (Instant::now(), Arc::<ChannelCounters>::default());
    let payload = vec![b'x'; size];
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        let message = Message::binary(black_box(&payload));
        // Freed in turn: a heap that grows would be measured otherwise.
        drop(black_box(Frame::new(message, 1, published, Arc::clone(&counters))));
    });
}

#[divan::bench(args = SIZES)]
fn publish_to_nobody(bencher: Bencher<'_, '_>, size: usize) {
    let channel = Hub::default().channel("bench").expect("a name");
    let message = Message::binary(vec![b'x'; size]);
    bencher.counter(BytesCount::new(size)).bench_local(|| channel.publish(message.clone()).expect("alone"));
}

#[divan::bench(args = SIZES)]
fn copy_only(bencher: Bencher<'_, '_>, size: usize) {
    let message = vec![b'x'; size];
    bencher.counter(BytesCount::new(size)).bench_local(|| drop(black_box(Bytes::copy_from_slice(black_box(&message)))));
}
