//! What the system says about threads and processes: CPU, memory, descriptors, limits. Linux's `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// CPU time of one thread, asked again and again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schedule {
    path: PathBuf,
    ran: u64,
    waited: u64,
}

impl Schedule {
    /// From now on, for the thread that calls.
    pub(crate) fn of_this_thread() -> Self {
        let thread = fs::read_link("/proc/thread-self").unwrap_or_default();
        let mut schedule = Self { path: Path::new("/proc").join(thread).join("schedstat"), ..Self::default() };
        schedule.since_last();
        schedule
    }

    /// Nanoseconds on a processor, and runnable without one, since it was last asked; nothing once the
    /// thread has ended.
    pub(crate) fn since_last(&mut self) -> (u64, u64) {
        let (ran, waited) = schedstat(&self.path).unwrap_or((self.ran, self.waited));
        let (last_ran, last_waited) = (self.ran, self.waited);
        (self.ran, self.waited) = (ran, waited);
        (ran.saturating_sub(last_ran), waited.saturating_sub(last_waited))
    }
}

/// Nanoseconds run and waited for a processor (`Documentation/scheduler/sched-stats.rst` of the kernel).
fn schedstat(path: &Path) -> Option<(u64, u64)> {
    let text = fs::read_to_string(path).ok()?;
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Processes at one moment, summed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) pids: Vec<u32>,
    /// CPU in nanoseconds.
    pub(crate) cpu: u64,
    /// Of these in the kernel; a clock tick is its resolution.
    pub(crate) kernel: u64,
    pub(crate) rss: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
}

impl Usage {
    /// Of a process and its descendants; nothing if it does not exist. Counting descriptors takes time
    /// in proportion to them.
    pub(crate) fn of_tree(pid: u32, descriptors: bool) -> Option<Self> {
        let mut usage = Self::default();
        let mut open = vec![pid];
        let mut known = BTreeSet::new();
        while let Some(pid) = open.pop() {
            if known.insert(pid) && usage.add(pid, descriptors) {
                open.extend(children(pid));
            }
        }
        (!usage.pids.is_empty()).then_some(usage)
    }

    /// Of the harness itself.
    pub(crate) fn of_self() -> Self {
        let mut usage = Self::default();
        usage.add(std::process::id(), false);
        usage
    }

    fn add(&mut self, pid: u32, descriptors: bool) -> bool {
        // The name in parentheses may have anything in it; the fields stand behind it.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((_, fields)) = stat.rsplit_once(')') else { return false };
        let fields: Vec<_> = fields.split_whitespace().collect();
        if fields.first() == Some(&"Z") {
            return false;
        }
        let field = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        self.pids.push(pid);
        self.kernel += field(12) * TICK;
        // Threads that have ended are only in the ticks, parts of a tick only in the threads.
        self.cpu += threads_cpu(pid).max((field(11) + field(12)) * TICK);
        self.threads += field(17);
        self.rss += resident(pid);
        if descriptors {
            self.descriptors += fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as u64);
        }
        true
    }
}

/// Nanoseconds of a clock tick in `/proc/PID/stat`: `USER_HZ` is 100 wherever Linux runs today.
const TICK: u64 = 10_000_000;

/// CPU of all living threads to the nanosecond.
fn threads_cpu(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of_thread = |thread: fs::DirEntry| schedstat(&thread.path().join("schedstat"));
    threads.filter_map(of_thread).map(|(ran, _)| ran).sum()
}

fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of_thread = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).unwrap_or_default();
    threads
        .flat_map(|thread| of_thread(thread).split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

fn status(pid: u32, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// Resident memory of a process in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    status(pid, "VmRSS:").unwrap_or(0) << 10
}

/// The soft limit on open files of a process; nothing if it cannot be read or there is none.
pub(crate) fn descriptor_limit(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Ports the system picks from for outgoing connections.
pub(crate) fn local_ports() -> Option<u64> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ports = text.split_whitespace().map(str::parse::<u64>);
    let (low, high) = (ports.next()?.ok()?, ports.next()?.ok()?);
    Some((high + 1).saturating_sub(low))
}

/// Model of the processor.
pub(crate) fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name"));
    line.map_or("unknown", |line| line.trim_start_matches([' ', '\t', ':']).trim()).to_owned()
}

/// System and release.
pub(crate) fn system() -> String {
    let read =
        |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default().trim().to_owned();
    format!("{} {}", read("ostype"), read("osrelease"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_and_its_children_are_seen() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let tree = Usage::of_tree(std::process::id(), true).expect("we are here");
        let _ = child.kill();
        let _ = child.wait();
        assert!(tree.pids.contains(&child.id()), "{tree:?}");
        assert!(tree.rss > 1 << 20 && tree.descriptors >= 3 && tree.threads >= 2 && tree.cpu > 0, "{tree:?}");
        assert!(Usage::of_tree(child.id(), false).is_none(), "it is gone");
        assert!(descriptor_limit(std::process::id()).is_some());
        assert!(local_ports().is_some_and(|ports| ports > 1_000));
    }

    #[test]
    fn a_busy_thread_has_run() {
        let mut schedule = Schedule::of_this_thread();
        let mut ran = 0;
        while ran < 5_000_000 {
            std::hint::black_box((0..10_000).sum::<u64>());
            ran += schedule.since_last().0;
        }
    }
}
