//! A file for what is read by its path.

use std::path::{Path, PathBuf};

/// A file with this text while it lives; in memory where there is a file system for that.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Writes the file. A thread has one of each `extension`, under the same name every time.
    pub fn new(extension: &str, text: &[u8]) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let (process, thread) = (std::process::id(), std::thread::current().id());
        let path = folder.join(format!("tickcast-fuzz-{process}-{thread:?}.{extension}"));
        std::fs::write(&path, text).expect("a file can be written");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
