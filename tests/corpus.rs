//! The fuzzers' committed corpus, through the same bodies as under the fuzzer, without a nightly toolchain.

use std::path::Path;
use std::sync::Mutex;

#[allow(unreachable_pub, reason = "the fuzz crate's library, included")]
#[path = "../fuzz/src/lib.rs"]
mod bodies;

/// Panics since the start. A runtime catches those of its tasks, and a test would not see them.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[test]
fn nothing_in_the_corpus_breaks_a_promise() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.lock().expect("nothing panics with the lock").push(panic.to_string());
        before(panic);
    }));
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (target, run) in bodies::TARGETS {
        let folder = corpus.join(target);
        let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{} has no corpus", folder.display());
        for file in files {
            let input = std::fs::read(&file).expect("a file of the corpus");
            let ran = std::panic::catch_unwind(|| run(&input));
            let panics = std::mem::take(&mut *PANICS.lock().expect("nothing panics with the lock"));
            assert!(ran.is_ok() && panics.is_empty(), "{target} with {}: {panics:?}", file.display());
        }
    }
    for name in std::fs::read_dir(&corpus).expect("a corpus").map(|folder| folder.expect("a folder").file_name()) {
        assert!(bodies::TARGETS.iter().any(|(target, _)| name == *target), "{name:?} is the corpus of no target");
    }
}
