//! What is not durable goes from the gateway to the other nodes and comes from them: who is there, who types.

use std::sync::Arc;
use std::time::Duration;

use ieum_gateway::Gateway;
use ieum_peer::circle::Circle;

use crate::cell::NodeCell;

/// How often it is looked who is here.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Brings them together, until it is dropped.
pub(crate) async fn share(circle: Arc<Circle>, gateway: Arc<Gateway<NodeCell>>) {
    // Held weakly: the gateway has the circle.
    let hearing = Arc::downgrade(&gateway);
    circle.signals().put_ear(Some(Arc::new(move |typing| {
        if let Some(gateway) = hearing.upgrade() {
            gateway.hear(typing);
        }
    })));
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        look.tick().await;
        circle.signals().set_people(gateway.people());
    }
}
