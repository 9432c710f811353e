//! Which data centers have power, which of them reach which others, and which of them people reach.

/// How many data centers a cell of several nodes has.
pub(crate) const DCS: usize = 3;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Dc {
    dark: bool,
    /// Nothing comes in from the others.
    deaf: bool,
    /// Nothing goes out to the others.
    mute: bool,
    /// People do not get in.
    shut: bool,
}

/// How a data center is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) deaf: bool,
    pub(crate) mute: bool,
    pub(crate) shut: bool,
}

/// How a request to the log fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// There and back.
    Answered,
    /// There, and the answer is lost.
    AnswerLost,
    /// Nobody hears it who could do it.
    Unheard,
}

/// The data centers.
#[derive(Debug, Default)]
pub(crate) struct Wan {
    dcs: [Dc; DCS],
    /// Where the log's leader is.
    leader: usize,
}

impl Wan {
    fn dc(&self, dc: usize) -> Dc {
        self.dcs.get(dc).copied().unwrap_or_default()
    }

    /// Whether what one sends arrives at the other.
    pub(crate) fn gets_through(&self, from: usize, to: usize) -> bool {
        let (sender, receiver) = (self.dc(from), self.dc(to));
        let open = from == to || (!sender.mute && !receiver.deaf);
        open && !sender.dark && !receiver.dark
    }

    fn talk(&self, one: usize, other: usize) -> bool {
        self.gets_through(one, other) && self.gets_through(other, one)
    }

    /// Whether the member of the log in a data center is one of a majority.
    fn is_of_majority(&self, dc: usize) -> bool {
        (0..DCS).filter(|other| self.talk(dc, *other)).count() * 2 > DCS
    }

    /// How a request to the log from a data center fares.
    pub(crate) fn way_to_log(&self, dc: usize) -> Way {
        let mut members = (0..DCS).filter(|member| self.is_of_majority(*member));
        if members.clone().any(|member| self.talk(dc, member)) {
            return Way::Answered;
        }
        if members.any(|member| self.gets_through(dc, member)) { Way::AnswerLost } else { Way::Unheard }
    }

    /// Whether people reach the nodes in a data center.
    pub(crate) fn is_open(&self, dc: usize) -> bool {
        let dc = self.dc(dc);
        !dc.dark && !dc.shut
    }

    pub(crate) fn is_dark(&self, dc: usize) -> bool {
        self.dc(dc).dark
    }

    /// Power goes or comes. True: the log elects a new leader.
    pub(crate) fn set_dark(&mut self, dc: usize, dark: bool) -> bool {
        if let Some(dc) = self.dcs.get_mut(dc) {
            dc.dark = dark;
        }
        self.elect()
    }

    /// A data center is cut off. True: the log elects a new leader.
    pub(crate) fn cut(&mut self, dc: usize, cut: Cut) -> bool {
        if let Some(dc) = self.dcs.get_mut(dc) {
            (dc.deaf, dc.mute, dc.shut) = (cut.deaf, cut.mute, cut.shut);
        }
        self.elect()
    }

    fn elect(&mut self) -> bool {
        if self.is_of_majority(self.leader) {
            return false;
        }
        let next = (0..DCS).find(|dc| self.is_of_majority(*dc));
        self.leader = next.unwrap_or(self.leader);
        next.is_some()
    }

    /// Everything works.
    pub(crate) fn heal(&mut self) {
        self.dcs = [Dc::default(); DCS];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH_WAYS: Cut = Cut { deaf: true, mute: true, shut: false };

    #[test]
    fn a_majority_goes_on_and_the_rest_does_not() {
        let mut wan = Wan::default();
        assert_eq!((0..DCS).map(|dc| wan.way_to_log(dc)).collect::<Vec<_>>(), [Way::Answered; 3]);
        assert!(wan.cut(0, BOTH_WAYS), "the leader was there");
        assert_eq!(
            (0..DCS).map(|dc| wan.way_to_log(dc)).collect::<Vec<_>>(),
            [Way::Unheard, Way::Answered, Way::Answered]
        );
        assert!(!wan.set_dark(1, true), "there is nobody to elect");
        assert_eq!((0..DCS).map(|dc| wan.way_to_log(dc)).collect::<Vec<_>>(), [Way::Unheard; 3]);
        wan.heal();
        wan.cut(2, Cut { deaf: true, ..BOTH_WAYS.half() });
        assert_eq!(wan.way_to_log(2), Way::AnswerLost);
    }

    impl Cut {
        fn half(self) -> Self {
            Self { mute: false, ..self }
        }
    }
}
