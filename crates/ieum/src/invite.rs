//! `ieum invite`: a code with which people may register.

use std::time::{SystemTime, UNIX_EPOCH};

use ieum_core::commands::operate::AddInvitation;
use ieum_gateway::Ticket;
use ieum_node::service::Handle;
use ieum_store::fjall::Fjall;
use ring::rand::{SecureRandom, SystemRandom};

use crate::admin::{Answer, ask_cell};

/// Letters that are not mistaken for each other.
const LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";

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
    match ask_cell(node, command.into()).await {
        Ok(Ok(_)) => Answer::Invited { code },
        Ok(Err(reject)) => Answer::Failed { reason: reject.code().to_owned() },
        Err(answer) => answer,
    }
}
