//! Holes, repeats and disorder in the sequence numbers of one connection.

/// Gaps that are remembered, so that a number that comes late is told from one that comes again. More
/// are open at once only where a server drops messages, and then nothing comes late.
const MAX_GAPS: usize = 32;

/// What a number means after those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Higher than all before; this many in between were skipped.
    Next(u64),
    /// Had been skipped.
    Late,
    /// Lower than the first of the connection; this many in between are skipped.
    Earlier(u64),
    /// Was there before.
    Repeat,
}

/// Remembers what one connection has received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tracker {
    /// Lowest and highest number, once there is one.
    seen: Option<(u64, u64)>,
    /// Numbers in between that have not come: first and last of each gap, ascending.
    gaps: Vec<(u64, u64)>,
}

impl Tracker {
    /// Takes the next number.
    pub(crate) fn arrive(&mut self, number: u64) -> Arrival {
        let Some((lowest, highest)) = &mut self.seen else {
            self.seen = Some((number, number));
            return Arrival::Next(0);
        };
        if number > *highest {
            let skipped = number - *highest - 1;
            if skipped > 0 {
                if self.gaps.len() == MAX_GAPS {
                    self.gaps.remove(0);
                }
                self.gaps.push((*highest + 1, number - 1));
            }
            *highest = number;
            Arrival::Next(skipped)
        } else if number < *lowest {
            let skipped = *lowest - number - 1;
            if skipped > 0 && self.gaps.len() < MAX_GAPS {
                self.gaps.insert(0, (number + 1, *lowest - 1));
            }
            *lowest = number;
            Arrival::Earlier(skipped)
        } else {
            self.fill(number)
        }
    }

    fn fill(&mut self, number: u64) -> Arrival {
        let Some(at) = self.gaps.iter().position(|(first, last)| (*first..=*last).contains(&number)) else {
            return Arrival::Repeat;
        };
        let (first, last) = self.gaps[at];
        match (first == number, last == number) {
            (true, true) => drop(self.gaps.remove(at)),
            (true, false) => self.gaps[at].0 += 1,
            (false, true) => self.gaps[at].1 -= 1,
            (false, false) => {
                self.gaps[at].1 = number - 1;
                if self.gaps.len() < MAX_GAPS {
                    self.gaps.insert(at + 1, (number + 1, last));
                }
            }
        }
        Arrival::Late
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
            match tracker.arrive(*number) {
                Arrival::Next(skipped) => holes += skipped,
                Arrival::Late => (holes, disorder) = (holes - 1, disorder + 1),
                Arrival::Earlier(skipped) => (holes, disorder) = (holes + skipped, disorder + 1),
                Arrival::Repeat => repeats += 1,
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
    fn memory_is_bounded() {
        let mut tracker = Tracker::default();
        for number in 0..10_000 {
            tracker.arrive(number * 2);
        }
        assert_eq!(tracker.gaps.len(), MAX_GAPS);
        assert_eq!(tracker.arrive(19_997), Arrival::Late);
        assert_eq!(tracker.arrive(19_998), Arrival::Repeat);
    }
}
