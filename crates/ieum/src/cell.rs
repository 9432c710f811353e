//! A node as the gateway uses it.

use std::fmt::Write as _;
use std::time::Duration;

use ieum_core::batch::Envelope;
use ieum_core::ids::Position;
use ieum_core::kv::Kv;
use ieum_gateway::metrics::figure;
use ieum_gateway::{Cell, Refused, Ticket};
use ieum_node::batcher::Refusal;
use ieum_node::service::Handle;
use ieum_store::fjall::Fjall;

/// A node over the view on disk.
#[derive(Clone)]
pub(crate) struct NodeCell(pub(crate) Handle<Fjall, Ticket>);

impl Cell for NodeCell {
    type View = <Fjall as Kv>::Snapshot;

    fn view(&self) -> Self::View {
        self.0.view()
    }

    fn submit(&self, envelope: &Envelope, ticket: Ticket) -> Result<(), (Refused, Ticket)> {
        self.0.submit(envelope, ticket).map_err(|(refusal, ticket)| {
            let refused = match refusal {
                Refusal::Full => Refused::Busy,
                Refusal::TooLarge => Refused::TooLarge,
            };
            (refused, ticket)
        })
    }

    fn applied(&self) -> Position {
        self.0.applied()
    }

    async fn reach(&self, position: Position) {
        self.0.reach(position).await;
    }

    fn waiting(&self) -> Duration {
        self.0.waiting()
    }

    fn metrics(&self, page: &mut String) {
        let alarms = self.0.alarms();
        figure(
            page,
            "counter",
            "commands_panicked_total",
            "Commands whose apply panicked; each is an alarm.",
            alarms.panicked,
        );
        figure(
            page,
            "counter",
            "batches_malformed_total",
            "Batches that could not be read; each is an alarm.",
            alarms.malformed,
        );
        figure(page, "counter", "batches_foreign_total", "Batches of nodes that are no members.", alarms.not_members);
        figure(
            page,
            "counter",
            "append_failures_total",
            "Appends that failed and were repeated.",
            alarms.append_failures,
        );
        let reserve = self.0.reserve();
        figure(page, "gauge", "disk_free_bytes", "Room on the disk of the data folder.", reserve.free());
        let help = "1 while commands are refused because the disk is almost full; an alarm.";
        figure(page, "gauge", "disk_short", help, u8::from(reserve.is_short()));
        let help = "How far the clock jumped while it is not followed; not 0 is an alarm.";
        figure(page, "gauge", "clock_jump_ms", help, self.0.clock_jump());
        figure(page, "counter", "snapshots_total", "Snapshots taken.", alarms.snapshots);
        figure(page, "counter", "snapshot_failures_total", "Snapshots not taken; alarms.", alarms.snapshot_failures);
        if let Ok(bytes) = self.0.kv().disk_bytes() {
            figure(page, "gauge", "view_bytes", "The view's size on disk.", bytes);
        }
        let _ = writeln!(page);
    }
}
