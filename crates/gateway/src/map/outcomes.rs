//! Outcomes to answers.

use std::io::Write as _;

use bytes::Bytes;
use ieum_core::ids::Position;
use ieum_core::outcome::{Accepted, Outcome, Reject};
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::{Ack, Done, ServerFrame};

/// What a client is told of an outcome.
pub fn answer(outcome: &Outcome) -> Result<Done, Problem> {
    match outcome {
        Outcome::Accepted(accepted) => Ok(done(accepted)),
        Outcome::Rejected(reject) => Err(problem(*reject)),
    }
}

/// What was accepted, or the problem that a rejection is.
pub(crate) fn accepted(outcome: Outcome) -> Result<Accepted, Problem> {
    match outcome {
        Outcome::Accepted(accepted) => Ok(accepted),
        Outcome::Rejected(reject) => Err(problem(reject)),
    }
}

/// What an accepted command gave.
#[must_use]
pub fn done(accepted: &Accepted) -> Done {
    let nothing = Done::default();
    match *accepted {
        Accepted::Done | Accepted::Registered { .. } | Accepted::DeviceAdded { .. } => nothing,
        Accepted::Room { room, created } => Done { room: Some(room.0), created: Some(created), ..nothing },
        Accepted::Sent { seq, time } => Done { seq: Some(seq), time: Some(time), ..nothing },
        Accepted::Archived { added, known, last } => {
            Done { added: Some(added), known: Some(known), seq: Some(last), ..nothing }
        }
        Accepted::Invited { added } => Done { added: Some(added), ..nothing },
    }
}

/// The problem that a rejection is to a client; every code of the cell's is one of the protocol's.
#[must_use]
pub fn problem(reject: Reject) -> Problem {
    Code::from_word(reject.code()).unwrap_or(Code::Internal).problem()
}

/// The frame that tells a device the outcome of its command `n`.
#[must_use]
pub fn frame(n: u64, position: Position, outcome: &Outcome) -> Bytes {
    // Almost every answer is this one: written out, it needs no tree of values and no texts of their own.
    if let Outcome::Accepted(Accepted::Sent { seq, time }) = outcome {
        let mut out = Vec::with_capacity(96);
        let _ = write!(out, r#"{{"ack":{{"n":{n},"pos":"{position}","ok":{{"seq":{seq},"time":{time}}}}}}}"#);
        return out.into();
    }
    let frame = match answer(outcome) {
        Err(error) if matches!(outcome, Outcome::Rejected(r) if r.leaves_number_unused()) => {
            ServerFrame::Refused { n, pos: position.to_string(), error }
        }
        Err(error) => ServerFrame::Ack(Ack { n, pos: position.to_string(), ok: None, error: Some(error) }),
        Ok(done) => ServerFrame::Ack(Ack { n, pos: position.to_string(), ok: Some(done), error: None }),
    };
    text(&frame)
}

/// A frame as it is sent.
#[must_use]
pub fn text(frame: &ServerFrame) -> Bytes {
    // Frames hold nothing that JSON cannot.
    serde_json::to_vec(frame).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rejection_has_its_code_in_the_protocol() {
        for reject in Reject::ALL {
            assert_eq!(Code::from_word(reject.code()).map(Code::as_str), Some(reject.code()));
        }
    }

    #[test]
    fn the_written_out_answer_is_the_general_one() {
        let outcome = Outcome::Accepted(Accepted::Sent { seq: 7, time: 1_700_000_000_000 });
        let position = Position::new(1, 55);
        let ok = Some(answer(&outcome).unwrap());
        let general = text(&ServerFrame::Ack(Ack { n: 3, pos: position.to_string(), ok, error: None }));
        assert_eq!(frame(3, position, &outcome), general);
    }
}
