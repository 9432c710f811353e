//! A node as the gateway uses it.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ieum_core::batch::Envelope;
use ieum_core::ids::{Position, UserId};
use ieum_core::kv::Kv;
use ieum_core::query::typing::Typing;
use ieum_gateway::metrics::figure;
use ieum_gateway::{Cell, Refused, Ticket};
use ieum_log_etcd::{Etcd, Health};
use ieum_node::batcher::Refusal;
use ieum_node::service::Handle;
use ieum_peer::circle::Circle;
use ieum_peer::trimmer::Figures;
use ieum_store::fjall::Fjall;

use crate::certificates::{self, Certificate};
use crate::config::Config;
use crate::shared::Part;

/// A node over the view on disk.
#[derive(Clone)]
pub(crate) struct NodeCell {
    node: Handle<Fjall, Ticket>,
    /// The node among the others, if the cell has others.
    circle: Option<Arc<Circle>>,
    /// Their log.
    log: Weak<Etcd>,
    certificates: Arc<[Certificate]>,
    /// The view's size on disk, as measured last.
    view_bytes: Arc<AtomicU64>,
}

/// How often the view's size is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(10);

impl NodeCell {
    /// The running node, whose view's size is measured from now on: not when somebody asks, because it may wait for the disk.
    pub(crate) fn new(node: Handle<Fjall, Ticket>, part: Option<&Part>, config: &Config) -> Self {
        let view_bytes = Arc::new(AtomicU64::new(0));
        let (view, bytes) = (Arc::downgrade(node.kv()), Arc::clone(&view_bytes));
        tokio::spawn(async move {
            let mut measure = tokio::time::interval(MEASURE_EVERY);
            loop {
                measure.tick().await;
                let Some(view) = view.upgrade() else { return };
                if let Ok(Ok(now)) = tokio::task::spawn_blocking(move || view.disk_bytes()).await {
                    bytes.store(now, Ordering::Relaxed);
                }
            }
        });
        let certificates = Arc::from(certificates::read(config));
        tokio::spawn(certificates::watch(Arc::downgrade(&certificates)));
        let circle = part.map(|part| Arc::clone(&part.circle));
        let log = part.map_or_else(Weak::new, |part| Weak::clone(&part.log));
        Self { node, circle, log, certificates, view_bytes }
    }
}

/// Of the members of etcd, how many there are and how many are of use.
fn members(page: &mut String, log: &Etcd) {
    let members = log.members();
    let up = members.iter().filter(|(_, health)| matches!(health, Health::Up { leader: true, .. })).count();
    figure(page, "gauge", "log_members", "Members of etcd by the settings.", members.len());
    let help = "Of these, how many answer this node and know a leader; fewer than all is an alarm.";
    figure(page, "gauge", "log_members_up", help, up);
}

/// How the shared log is, for a cell of several nodes.
fn shared_log(page: &mut String, node: &Handle<Fjall, Ticket>, figures: &Figures) {
    let help = "1 while nodes of one data center alone are there, so that the shared log is not trimmed; an alarm.";
    figure(page, "gauge", "one_data_center", help, u8::from(figures.one_data_center));
    figure(
        page,
        "gauge",
        "views_differ",
        "1 while views of the cell differ; an alarm.",
        u8::from(figures.views_differ),
    );
    let help =
        "For how long the shared log has not been trimmed although there is something to trim; above 60 is an alarm.";
    figure(page, "gauge", "log_untrimmed_seconds", help, figures.untrimmed.as_secs());
    let help = "Members that run and that the shared log no longer reaches back to; each is an alarm.";
    figure(page, "gauge", "members_left_behind", help, figures.left_behind);
    let help = "How often this node trimmed because those whose part it was did not; each is an alarm.";
    figure(page, "counter", "log_trims_taken_over_total", help, figures.taken_over);
    figure(page, "counter", "log_trim_failures_total", "How often trimming the shared log failed.", figures.failures);
    if let Some(room) = node.room() {
        figure(page, "gauge", "log_used_bytes", "What the shared log's fullest member has in use.", room.used);
        figure(page, "gauge", "log_room_bytes", "With so much in use, the shared log takes nothing more.", room.most);
    }
    let help = "1 while commands are taken more slowly because half of the shared log's room is used; an alarm.";
    figure(page, "gauge", "log_slowed", help, u8::from(node.is_slowed()));
}

impl Cell for NodeCell {
    type View = <Fjall as Kv>::Snapshot;

    fn view(&self) -> Self::View {
        self.node.view()
    }

    fn submit(&self, envelope: &Envelope, ticket: Ticket) -> Result<(), (Refused, Ticket)> {
        self.node.submit(envelope, ticket).map_err(|(refusal, ticket)| {
            let refused = match refusal {
                Refusal::Full => Refused::Busy,
                Refusal::TooLarge => Refused::TooLarge,
            };
            (refused, ticket)
        })
    }

    fn applied(&self) -> Position {
        self.node.applied()
    }

    async fn reach(&self, position: Position) {
        self.node.reach(position).await;
    }

    fn waiting(&self) -> Duration {
        self.node.waiting()
    }

    fn proven(&self) -> Duration {
        self.node.proven()
    }

    fn is_calm(&self) -> bool {
        self.node.is_calm()
    }

    fn signal(&self, typing: &[(Typing, Vec<UserId>)]) {
        if let Some(circle) = &self.circle {
            circle.signals().tell(typing);
        }
    }

    fn metrics(&self, page: &mut String) {
        let alarms = self.node.alarms();
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
        let reserve = self.node.reserve();
        figure(page, "gauge", "disk_free_bytes", "Room on the disk of the data folder.", reserve.free());
        let help = "1 while commands are refused because the disk is almost full; an alarm.";
        figure(page, "gauge", "disk_short", help, u8::from(reserve.is_short()));
        let help = "How far the clock jumped while it is not followed; not 0 is an alarm.";
        figure(page, "gauge", "clock_jump_ms", help, self.node.clock_jump());
        figure(page, "counter", "snapshots_total", "Snapshots taken.", alarms.snapshots);
        figure(page, "counter", "snapshot_failures_total", "Snapshots not taken; alarms.", alarms.snapshot_failures);
        let bytes = self.view_bytes.load(Ordering::Relaxed);
        figure(page, "gauge", "view_bytes", "The view's size on disk, measured every 10 seconds.", bytes);
        if let Some(circle) = &self.circle {
            shared_log(page, &self.node, &circle.figures());
            let help =
                "People who have the app in front of them at other nodes, as these say; at two of them counts twice.";
            figure(page, "gauge", "people_elsewhere", help, circle.signals().people_elsewhere());
        }
        if let Some(log) = self.log.upgrade() {
            members(page, &log);
        }
        if let Some(left) = certificates::seconds_left(&self.certificates) {
            let help = "For how long the first of this node's certificates is still good; below 30 days is an alarm.";
            figure(page, "gauge", "certificate_seconds_left", help, left);
        }
        let _ = writeln!(page);
    }
}
