//! Says to the person how the connection stands.

use ieum_client::{Endpoint, State};

use crate::text::note;
use crate::words::{self, words};

/// Says what changed: that it is there, that it is lost, and why the first attempt in a row failed.
#[derive(Default)]
pub(crate) struct Notices {
    trying: Option<Endpoint>,
    live: bool,
    told: bool,
    failures_only: bool,
}

impl Notices {
    /// For a command that says itself when it is done.
    pub(crate) fn of_failures() -> Self {
        Self { failures_only: true, ..Self::default() }
    }

    pub(crate) fn say(&mut self, state: &State) {
        if let Some(line) = self.line(state) {
            note(&line);
        }
    }

    fn line(&mut self, state: &State) -> Option<String> {
        match state {
            State::Connecting { endpoint } => self.trying = Some(endpoint.clone()),
            State::Live { endpoint } => {
                (self.live, self.told) = (true, false);
                return Some(words!("connected to {endpoint}", "{endpoint}에 연결되었습니다"))
                    .filter(|_| !self.failures_only);
            }
            State::Waiting { why: Some(why), .. } if self.live => {
                self.live = false;
                let why = words::why(why);
                return Some(words!(
                    "the connection is lost; connecting again ({why})",
                    "연결이 끊겼습니다. 다시 연결합니다 ({why})"
                ));
            }
            State::Waiting { why: Some(why), .. } if !self.told => {
                self.told = true;
                let why = words::why(why);
                let endpoint = self.trying.as_ref().map(ToString::to_string).unwrap_or_default();
                return Some(words!(
                    "no connection to {endpoint}: {why}; trying again",
                    "{endpoint}에 연결하지 못했습니다: {why}. 다시 시도합니다"
                ));
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ieum_client::Why;

    #[test]
    fn the_first_failure_in_a_row_is_said_with_its_reason() {
        let mut notices = Notices::default();
        let endpoint: Endpoint = "ws://a:1".parse().unwrap();
        let waiting = |why| State::Waiting { why, for_ms: 1 };
        assert_eq!(notices.line(&waiting(None)), None);
        assert_eq!(notices.line(&State::Connecting { endpoint: endpoint.clone() }), None);
        let said = notices.line(&waiting(Some(Why::Unreachable("refused".to_owned())))).unwrap();
        assert!(said.contains("ws://a:1") && said.contains("refused"), "{said}");
        assert_eq!(notices.line(&waiting(Some(Why::Silent))), None);
        assert!(notices.line(&State::Live { endpoint: endpoint.clone() }).is_some());
        assert!(notices.line(&waiting(Some(Why::Broken("reset".to_owned())))).unwrap().contains("reset"));
        assert!(notices.line(&waiting(Some(Why::Behind))).is_some());
        assert_eq!(Notices::of_failures().line(&State::Live { endpoint }), None);
    }
}
