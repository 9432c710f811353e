use proptest::prelude::*;

use super::*;
use crate::commands::message::Send;
use crate::ids::RoomId;

fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![
        Just(Origin::Node),
        (any::<u64>(), any::<u64>(), any::<[u8; 16]>()).prop_map(|(device, number, id)| Origin::Device {
            device: DeviceId(device),
            number,
            id
        }),
        (any::<u64>(), any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(device, key, request)| Origin::Http {
            device: DeviceId(device),
            key,
            request
        }),
        any::<([u8; 16], [u8; 16])>().prop_map(|(key, request)| Origin::Anonymous { key, request }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        (any::<u64>(), ".*", any::<Option<u64>>()).prop_map(|(room, text, reply_to)| Send {
            room: RoomId(room),
            text,
            reply_to
        }
        .into()),
        (100u64.., any::<Vec<u8>>()).prop_map(|(number, bytes)| Command::Unknown { number, bytes: bytes.into() }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_batch_reads_back(
        header in any::<(u32, u64, u64, u64)>(),
        commands in proptest::collection::vec((origin(), command()), 0..6),
    ) {
        let (node, incarnation, number, clock) = header;
        let commands = commands.into_iter().map(|(origin, command)| Envelope { origin, command }).collect();
        let batch = Batch { header: Header { node, incarnation, number, clock }, commands };
        prop_assert_eq!(Batch::decode(&batch.encode()), Ok(batch));
    }
}

#[test]
fn a_batch_that_shrank_a_great_deal_reads_back() {
    let text = "가".repeat(300_000);
    let envelope = Envelope { origin: Origin::Node, command: Send { room: RoomId(1), text, reply_to: None }.into() };
    let header = Header { node: 1, incarnation: 1, number: 1, clock: 1 };
    let batch = Batch { header, commands: vec![envelope] };
    let bytes = batch.encode();
    assert!(bytes.len() < 12_000);
    assert_eq!(Batch::decode(&bytes), Ok(batch));
}

#[test]
fn a_length_beyond_what_the_bytes_can_hold_is_refused_before_it_costs_memory() {
    let lie = [1, 0x80, 0x80, 0x20, 0, 0, 0];
    assert_eq!(Batch::decode(&lie), Err(Malformed("batch too long")));
    let beyond = [1, 0x81, 0x80, 0x40];
    assert_eq!(Batch::decode(&[&beyond[..], &[0; 20_000]].concat()), Err(Malformed("batch too long")));
}
