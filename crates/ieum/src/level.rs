//! `ieum level`: which level the cell is at, and the step to a higher one.

use ieum_core::commands::operate::Activate;
use ieum_gateway::Ticket;
use ieum_node::levels::{Levels, Member};
use ieum_node::service::Handle;
use ieum_store::fjall::Fjall;

use crate::admin::{Answer, Knows, ask_cell, failed};

fn levels(node: &Handle<Fjall, Ticket>) -> Result<Levels, Answer> {
    let levels = Levels::of(&node.view()).map_err(|error| failed(&error))?;
    levels.ok_or_else(|| Answer::Failed { reason: "the cell is not founded yet".to_owned() })
}

/// Where the cell stands.
pub(crate) fn show(node: &Handle<Fjall, Ticket>) -> Answer {
    let known = |Member { node, dc, level }| Knows { node, dc, level };
    match levels(node) {
        Ok(Levels { active, members }) => Answer::Levels { active, members: members.into_iter().map(known).collect() },
        Err(answer) => answer,
    }
}

/// Makes `level` the active one.
pub(crate) async fn activate(node: &Handle<Fjall, Ticket>, level: u32) -> Answer {
    let refusal = |node| Ok(levels(node)?.refusal(level).map(|refusal| failed(&refusal)));
    let done = async {
        if let Some(answer) = refusal(node)? {
            return Ok(answer);
        }
        Ok(match ask_cell(node, Activate { level }.into()).await? {
            Ok(_) => Answer::Activated { level },
            // Somebody was faster, so that it is refused by now.
            Err(reject) => refusal(node)?.unwrap_or_else(|| Answer::Failed { reason: reject.code().to_owned() }),
        })
    };
    done.await.unwrap_or_else(|answer: Answer| answer)
}
