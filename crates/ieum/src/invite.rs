//! `ieum invite`: a code with which people may register.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ieum_core::batch::{Envelope, Origin};
use ieum_core::commands::operate::AddInvitation;
use ieum_core::outcome::Outcome;
use ieum_gateway::Ticket;
use ieum_node::service::Handle;
use ieum_store::fjall::Fjall;
use ring::rand::{SecureRandom, SystemRandom};

use crate::admin::{Answer, failed};

/// Letters that are not mistaken for each other.
const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";

/// How long an operator waits for the log.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn make(node: &Handle<Fjall, Ticket>, uses: u32, days: u32) -> Answer {
    let mut random = [0; 16];
    if SystemRandom::new().fill(&mut random).is_err() {
        return Answer::Failed { reason: "no randomness".to_owned() };
    }
    let letter = |byte: &u8| LETTERS.get(usize::from(byte % 32)).map_or('a', |letter| char::from(*letter));
    let code: String = random.iter().map(letter).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    let command = AddInvitation {
        code_hash: *blake3::hash(code.as_bytes()).as_bytes(),
        uses,
        expires_at: now + u64::from(days) * 24 * 60 * 60 * 1000,
    };
    let (ticket, outcome) = Ticket::request();
    let envelope = Envelope { origin: Origin::Node, command: command.into() };
    if node.submit(&envelope, ticket).is_err() {
        return Answer::Failed { reason: "the node takes no more work just now".to_owned() };
    }
    match tokio::time::timeout(PATIENCE, outcome).await {
        Ok(Ok((_, Outcome::Accepted(_)))) => Answer::Invited { code },
        Ok(Ok((_, Outcome::Rejected(reject)))) => Answer::Failed { reason: reject.code().to_owned() },
        Ok(Err(error)) => failed(&error),
        Err(_) => Answer::Failed { reason: "the log does not answer just now; try again when it does".to_owned() },
    }
}
