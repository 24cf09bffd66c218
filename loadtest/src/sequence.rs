//! Holes, repeats and disorder in the sequence numbers of one connection.

/// Gaps that are remembered, so that a number that comes late is told from one that comes again. Only a
/// server that drops many messages leaves more open at once.
const MAX_GAPS: usize = 32;
/// Going back further than this is no repeat: the numbering has begun anew.
const RESTART: u64 = 4_096;

/// What a number means after those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Higher than all before; this many in between were skipped.
    Next(u64),
    /// Had been skipped, and was counted as that or not.
    Late(bool),
    /// Lower than the first of the connection; this many in between are skipped.
    Earlier(u64),
    /// Was there before.
    Repeat,
    /// Far below the highest: a new numbering begins with it.
    Restart,
}

/// Numbers that have not come, and whether they were counted as holes.
#[derive(Clone, Copy, Debug)]
struct Gap {
    first: u64,
    last: u64,
    counted: bool,
}

/// Remembers what one connection has received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tracker {
    /// Lowest and highest number, once there is one.
    seen: Option<(u64, u64)>,
    /// In between, ascending.
    gaps: Vec<Gap>,
    /// Up to here gaps have been forgotten, and what comes from there is taken for late.
    forgotten: Option<u64>,
}

impl Tracker {
    /// Takes the next number; `counted` says whether what it skips counts as holes.
    pub(crate) fn arrive(&mut self, number: u64, counted: bool) -> Arrival {
        let Some((lowest, highest)) = &mut self.seen else {
            self.seen = Some((number, number));
            return Arrival::Next(0);
        };
        if number > *highest {
            let gap = Gap { first: *highest + 1, last: number - 1, counted };
            *highest = number;
            Arrival::Next(self.open(gap, usize::MAX))
        } else if *highest - number > RESTART && !self.gaps.iter().any(|gap| (gap.first..=gap.last).contains(&number)) {
            *self = Self { seen: Some((number, number)), ..Self::default() };
            Arrival::Restart
        } else if number < *lowest {
            let gap = Gap { first: number + 1, last: *lowest - 1, counted };
            *lowest = number;
            Arrival::Earlier(self.open(gap, 0))
        } else {
            self.fill(number)
        }
    }

    /// Highest number so far.
    pub(crate) fn highest(&self) -> Option<u64> {
        self.seen.map(|(_, highest)| highest)
    }

    /// Remembers a gap at this place of the list; returns how long it is.
    fn open(&mut self, gap: Gap, at: usize) -> u64 {
        if gap.first > gap.last {
            return 0;
        }
        self.gaps.insert(at.min(self.gaps.len()), gap);
        if self.gaps.len() > MAX_GAPS {
            self.forgotten = Some(self.gaps.remove(0).last);
        }
        gap.last - gap.first + 1
    }

    fn fill(&mut self, number: u64) -> Arrival {
        let Some(at) = self.gaps.iter().position(|gap| (gap.first..=gap.last).contains(&number)) else {
            let forgotten = self.forgotten.is_some_and(|forgotten| number <= forgotten);
            return if forgotten { Arrival::Late(true) } else { Arrival::Repeat };
        };
        let gap = self.gaps.remove(at);
        let (below, above) = (Gap { last: number.saturating_sub(1), ..gap }, Gap { first: number + 1, ..gap });
        if number < gap.last {
            self.open(above, at);
        }
        if number > gap.first {
            self.open(below, at);
        }
        Arrival::Late(gap.counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holes, repeats and disorder of a stream.
    fn judge(numbers: &[u64]) -> (u64, u64, u64) {
        let mut tracker = Tracker::default();
        let (mut holes, mut repeats, mut disorder) = (0, 0, 0);
        for number in numbers {
            match tracker.arrive(*number, true) {
                Arrival::Next(skipped) => holes += skipped,
                Arrival::Late(_) => (holes, disorder) = (holes - 1, disorder + 1),
                Arrival::Earlier(skipped) => (holes, disorder) = (holes + skipped, disorder + 1),
                Arrival::Repeat => repeats += 1,
                Arrival::Restart => panic!("{number} does not begin a new numbering"),
            }
        }
        (holes, repeats, disorder)
    }

    #[test]
    fn every_kind_is_told_from_the_others() {
        assert_eq!(judge(&[7, 8, 9]), (0, 0, 0));
        assert_eq!(judge(&[1, 2, 5, 6]), (2, 0, 0));
        assert_eq!(judge(&[1, 2, 2, 3, 1]), (0, 2, 0));
        assert_eq!(judge(&[1, 3, 2, 4]), (0, 0, 1));
        assert_eq!(judge(&[1, 3, 2, 2, 4]), (0, 1, 1));
        assert_eq!(judge(&[1, 10, 5, 5, 4, 6]), (5, 1, 3));
        assert_eq!(judge(&[5, 1, 2, 2, 4, 3, 6]), (0, 1, 4));
        assert_eq!(judge(&[0, u64::MAX]), (u64::MAX - 1, 0, 0));
    }

    /// Against a set that remembers everything.
    #[test]
    fn random_streams_are_judged_exactly() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..500 {
            let numbers: Vec<u64> = (0..30).map(|_| random.u64(1..40)).collect();
            let mut seen = std::collections::BTreeSet::new();
            let (mut repeats, mut disorder) = (0, 0);
            for number in &numbers {
                let late = seen.last().is_some_and(|highest| number < highest);
                match seen.insert(*number) {
                    false => repeats += 1,
                    true => disorder += u64::from(late),
                }
            }
            let span = seen.last().expect("some") - seen.first().expect("some") + 1;
            assert_eq!(judge(&numbers), (span - seen.len() as u64, repeats, disorder), "{numbers:?}");
        }
    }

    #[test]
    fn a_new_numbering_is_told_from_repeats() {
        let mut tracker = Tracker::default();
        assert_eq!(tracker.arrive(1, true), Arrival::Next(0));
        assert_eq!(tracker.arrive(1_000_000, true), Arrival::Next(999_998));
        assert_eq!(tracker.arrive(500_000, true), Arrival::Late(true), "in a gap, however far back");
        assert_eq!(tracker.arrive(1, true), Arrival::Restart);
        assert_eq!(tracker.arrive(2, true), Arrival::Next(0));
    }

    #[test]
    fn a_gap_remembers_whether_it_was_counted() {
        let mut tracker = Tracker::default();
        tracker.arrive(1, false);
        assert_eq!(tracker.arrive(4, false), Arrival::Next(2));
        assert_eq!(tracker.arrive(7, true), Arrival::Next(2));
        assert_eq!(tracker.arrive(2, true), Arrival::Late(false));
        assert_eq!(tracker.arrive(6, false), Arrival::Late(true));
    }

    #[test]
    fn memory_is_bounded_and_the_rest_taken_for_late() {
        let mut tracker = Tracker::default();
        for number in 0..2_000 {
            tracker.arrive(number * 2, true);
        }
        assert_eq!(tracker.gaps.len(), MAX_GAPS);
        assert_eq!(tracker.arrive(3_997, true), Arrival::Late(true));
        assert_eq!(tracker.arrive(3_998, true), Arrival::Repeat);
        assert_eq!(tracker.arrive(1, true), Arrival::Late(true), "forgotten");
        // All odd numbers, late: none is lost, however many gaps there were.
        assert_eq!(judge(&(0..200).map(|n| n * 2).chain((0..199).map(|n| n * 2 + 1)).collect::<Vec<_>>()), (0, 0, 199));
    }
}
