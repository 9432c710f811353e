//! A node hears what the others say.

use std::sync::Arc;

use crate::circle::{ASK_AGAIN, Circle};

impl Circle {
    /// Listens to the node at `address` for as long as there may be one: to what it says of itself, and to what is not durable.
    pub(crate) async fn attend(self: Arc<Self>, address: String) {
        let hearing = Arc::clone(&self).hear(address.clone());
        tokio::select! {
            () = self.ask(address) => {}
            () = hearing => {}
        }
    }

    /// Hears what is not durable. On a connection of its own, so that it never keeps a report waiting.
    async fn hear(self: Arc<Self>, address: String) {
        // What is wrong with the address is told by whoever asks for its reports.
        let Ok(peer) = self.peer(&address) else { return std::future::pending().await };
        let gone = Gone { circle: Arc::clone(&self), address };
        loop {
            if let Err(error) = self.signals().listen(&peer).await {
                tracing::debug!(%error, "another node does not say who is there and who types");
            }
            self.signals().forget(&gone.address);
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
}

/// Forgets who was at an address, also when nobody listens to it any more.
struct Gone {
    circle: Arc<Circle>,
    address: String,
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.circle.signals().forget(&self.address);
    }
}
