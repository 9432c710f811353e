//! Reads what a server sends, passing over what this version does not know.

use ieum_protocol::frames::{CatchUp, Event, RoomChanges, ServerFrame};
use ieum_protocol::objects::Message;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A frame, as far as it is known.
pub(super) struct Decoded {
    /// `None` for one that is not known at all.
    pub(super) frame: Option<ServerFrame>,
    /// How many frames, events or parts were passed over.
    pub(super) passed_over: u64,
}

/// Reads one frame. What is known is read at once; only when that fails is the frame looked at piece by piece.
pub(super) fn decode(text: &str) -> Decoded {
    match serde_json::from_str(text) {
        Ok(frame) => Decoded { frame: Some(frame), passed_over: 0 },
        Err(_) => piecewise(text),
    }
}

fn piecewise(text: &str) -> Decoded {
    let unknown = Decoded { frame: None, passed_over: 1 };
    let Ok(Value::Object(frame)) = serde_json::from_str(text) else { return unknown };
    let mut passed_over = 0;
    let frame = match frame.into_iter().next() {
        Some((kind, body)) if kind == "events" => events(body, &mut passed_over),
        Some((kind, body)) if kind == "catch_up" => catch_up(body, &mut passed_over),
        _ => None,
    };
    if frame.is_none() { unknown } else { Decoded { frame, passed_over } }
}

fn events(mut body: Value, passed_over: &mut u64) -> Option<ServerFrame> {
    let pos = body.get("pos")?.as_str()?.to_owned();
    let list = pieces(body.get_mut("list")?, passed_over, |piece| {
        let message = piece.as_object_mut().and_then(|event| {
            let kind = if event.contains_key("message") { "message" } else { "changed" };
            event.get_mut(kind)
        });
        message.is_some_and(plain)
    });
    Some(ServerFrame::Events { pos, list: list as Vec<Event> })
}

fn catch_up(mut body: Value, passed_over: &mut u64) -> Option<ServerFrame> {
    let mut parts = 0;
    if let Some(rooms) = body.get_mut("rooms").and_then(Value::as_array_mut) {
        for room in rooms {
            for list in ["messages", "changed"] {
                if let Some(list) = room.get_mut(list) {
                    let known: Vec<Message> = pieces(list, &mut parts, plain);
                    *list = serde_json::to_value(known).ok()?;
                }
            }
        }
    }
    let rooms: Vec<RoomChanges> = pieces(body.get_mut("rooms")?, &mut parts, |_| false);
    let left = body.get("left").and_then(u64s).unwrap_or_default();
    *passed_over += parts;
    Some(ServerFrame::CatchUp(CatchUp { rooms, left }))
}

fn u64s(list: &Value) -> Option<Vec<u64>> {
    list.as_array().map(|list| list.iter().filter_map(Value::as_u64).collect())
}

/// The pieces of a list that can be read, in order; one that cannot be read gets a second try if `simplify` made it simpler.
fn pieces<T: DeserializeOwned>(
    list: &mut Value,
    passed_over: &mut u64,
    simplify: impl Fn(&mut Value) -> bool,
) -> Vec<T> {
    let Some(list) = list.as_array_mut() else { return Vec::new() };
    let mut known = Vec::with_capacity(list.len());
    for piece in list {
        if let Ok(read) = T::deserialize(&*piece) {
            known.push(read);
            continue;
        }
        *passed_over += 1;
        if simplify(piece)
            && let Ok(read) = T::deserialize(&*piece)
        {
            known.push(read);
        }
    }
    known
}

/// Takes from a message what a later version may have put there, so that its seq is not missing from the room.
fn plain(message: &mut Value) -> bool {
    message.as_object_mut().is_some_and(|message| {
        let system = message.remove("system");
        system.is_some() | message.remove("archived").is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_frame_is_read_whole() {
        let decoded = decode(r#"{"pong":{"id":3,"pos":"1.2","later":true}}"#);
        assert_eq!(decoded.frame, Some(ServerFrame::Pong { id: 3, pos: "1.2".into() }));
        assert_eq!(decoded.passed_over, 0);
    }

    #[test]
    fn an_unknown_frame_and_what_is_no_json_are_passed_over() {
        for text in [
            r#"{"dancing":{"room":1}}"#,
            r#"{"typing":{"room":1}}"#,
            "",
            "{",
            "[]",
            "null",
            r#"{"pong":{}}"#,
            r#"{"events":{"list":[]}}"#,
        ] {
            let decoded = decode(text);
            assert_eq!((decoded.frame, decoded.passed_over), (None, 1), "{text}");
        }
    }

    #[test]
    fn an_unknown_event_is_passed_over_and_the_others_are_not() {
        let decoded = decode(
            r#"{"events":{"pos":"1.7","list":[{"left":{"room":1}},{"reaction":{"room":1}},{"receipt":{"room":1,"user":2,"seq":3}}]}}"#,
        );
        let list = vec![Event::Left { room: 1 }, Event::Receipt { room: 1, user: 2, seq: 3 }];
        assert_eq!(decoded.frame, Some(ServerFrame::Events { pos: "1.7".into(), list }));
        assert_eq!(decoded.passed_over, 1);
    }

    #[test]
    fn a_message_of_an_unknown_kind_keeps_its_seq() {
        let decoded = decode(
            r#"{"events":{"pos":"1.7","list":[{"message":{"room":1,"seq":4,"from":2,"time":9,"system":{"pinned":{}}}}]}}"#,
        );
        let Some(ServerFrame::Events { list, .. }) = decoded.frame else { panic!("no events") };
        assert!(
            matches!(&list[..], [Event::Message { room: 1, message }] if message.seq == 4 && message.system.is_none())
        );
    }

    #[test]
    fn a_catch_up_with_strange_parts_gives_the_rest() {
        let room = r#""kind":"group","members":2,"role":"member","from":1,"last":2,"last_time":1,"read":0,"unread":2"#;
        let decoded = decode(&format!(
            r#"{{"catch_up":{{"rooms":[{{"room":{{"id":1,{room}}},"messages":[{{"seq":1,"from":1,"time":1,"system":"strange"}},{{"seq":2,"from":1,"time":1,"text":"hi"}}]}},
               {{"room":{{"id":2,"kind":"strange"}}}}],"left":[7]}}}}"#
        ));
        let Some(ServerFrame::CatchUp(CatchUp { rooms, left })) = decoded.frame else { panic!("no catch-up") };
        assert_eq!(left, [7]);
        assert_eq!(rooms.len(), 1);
        assert_eq!(rooms[0].messages.iter().map(|message| message.seq).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(decoded.passed_over, 2);
    }
}
