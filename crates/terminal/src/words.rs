//! Korean or English: which of the two, and a way to write both side by side.

use std::sync::OnceLock;

use ieum_client::{Failure, HttpError, Stop, Why};
use ieum_protocol::errors::{Code, Problem};
use ieum_protocol::frames::Change;

use crate::error::Error;
use crate::text::label;

/// Most characters of a message that are repeated where it is spoken of.
const BEGINNING: usize = 40;

/// What a person is spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    English,
    Korean,
}

impl Language {
    /// As terminals are told it: the first of `LC_ALL`, `LC_MESSAGES` and `LANG` that is set counts.
    fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let locale = set("LC_ALL").or_else(|| set("LC_MESSAGES")).or_else(|| set("LANG")).unwrap_or_default();
        if locale == "ko" || locale.starts_with("ko_") || locale.starts_with("ko.") {
            Self::Korean
        } else {
            Self::English
        }
    }
}

/// The language of this process.
pub(crate) fn language() -> Language {
    static LANGUAGE: OnceLock<Language> = OnceLock::new();
    *LANGUAGE.get_or_init(|| Language::of(|name| std::env::var(name).ok()))
}

/// `words!("English {x}", "한국어 {x}")`: text as `format!` makes it, in the person's language.
macro_rules! words {
    ($english:literal, $korean:literal $(, $argument:expr)* $(,)?) => {
        match $crate::words::language() {
            $crate::words::Language::English => format!($english $(, $argument)*),
            $crate::words::Language::Korean => format!($korean $(, $argument)*),
        }
    };
}
pub(crate) use words;

/// A server's problem for a person. The code stays beside it: it is what an operator asks for.
pub(crate) fn problem(problem: &Problem) -> String {
    let korean = match language() {
        Language::Korean => problem.known().and_then(korean),
        Language::English => None,
    };
    let detail = problem.detail.as_ref().map(|detail| format!(": {}", label(detail))).unwrap_or_default();
    format!("{} ({}){detail}", label(korean.unwrap_or(&problem.title)), label(&problem.code))
}

/// Why a call gave nothing.
pub(crate) fn http_error(error: &HttpError) -> String {
    match error {
        HttpError::Problem(told) => problem(told),
        HttpError::Unreachable(reason) => words!("no server answers: {reason}", "서버가 응답하지 않습니다: {reason}"),
        HttpError::Unreadable(reason) => {
            words!("the answer cannot be read: {reason}", "서버의 응답을 이해할 수 없습니다: {reason}")
        }
        HttpError::NobodySignedIn => words!("nobody is signed in", "로그인되어 있지 않습니다"),
    }
}

/// Why a command had no effect.
pub(crate) fn failure(failure: &Failure) -> String {
    match failure {
        Failure::Rejected(told) | Failure::NotTaken(told) => problem(told),
        Failure::Stopped(why) => stop(why),
        other => match language() {
            Language::English => other.to_string(),
            Language::Korean => format!("처리하지 못했습니다: {other}"),
        },
    }
}

/// What had no effect, and why: the command as it stood in the outbox.
pub(crate) fn not_done(body: &str, why: &Failure) -> String {
    let why = failure(why);
    let what = serde_json::from_str(body).ok().and_then(|change| beginning(&change));
    let what = what.map(|what| format!(": {what}")).unwrap_or_default();
    words!("not done: {why}{what}", "처리되지 않았습니다: {why}{what}")
}

/// How somebody who wrote it knows a change again.
fn beginning(change: &Change) -> Option<String> {
    Some(match change {
        Change::Send { text, .. } | Change::Edit { text, .. } => {
            let beginning: String = text.chars().take(BEGINNING).collect();
            let rest = if beginning.len() < text.len() { "…" } else { "" };
            format!("{}{rest}", label(&beginning))
        }
        Change::Delete { room, seq } => words!("deleting #{room}/{seq}", "#{room}/{seq} 삭제"),
        _ => return None,
    })
}

/// Why a connection or an attempt ended.
pub(crate) fn why(why: &Why) -> String {
    match why {
        Why::Unreachable(reason) => words!("it cannot be reached ({reason})", "서버에 닿지 않습니다 ({reason})"),
        Why::Silent => words!("it does not answer in time", "제때 응답하지 않습니다"),
        Why::Broken(reason) => words!("the connection broke ({reason})", "연결이 끊어졌습니다 ({reason})"),
        Why::Told(told) => problem(told),
        Why::Behind => words!(
            "this server knows less than was confirmed to this device",
            "이 서버는 이 기기에 이미 확인해 준 것보다 적게 알고 있습니다"
        ),
    }
}

/// What it means for a command that the client stopped: nothing if it closed it itself.
pub(crate) fn closed(why: Stop) -> Result<(), Error> {
    if why == Stop::Closed { Ok(()) } else { Err(why.into()) }
}

/// Why the client stopped for good.
pub(crate) fn stop(why: &Stop) -> String {
    match why {
        Stop::Closed => words!("it was closed", "종료되었습니다"),
        Stop::Told(told) => problem(told),
        Stop::Store(reason) => {
            words!("the store failed: {reason}", "이 기기의 저장소에 문제가 생겼습니다: {reason}")
        }
    }
}

/// What a code means, where a person can come to see it.
fn korean(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::RegistrationClosed => "이 서버에서는 가입할 수 없습니다.",
        Code::InvitationNeeded => "가입하려면 초대 코드가 필요합니다.",
        Code::InvitationInvalid => "초대 코드가 없거나 이미 사용되었습니다.",
        Code::HandleTaken => "이미 사용 중인 아이디입니다.",
        Code::HandleInvalid => "아이디는 a-z, 0-9, _, . 로 된 3~30자입니다.",
        Code::NameInvalid => "이름은 1~50자이며 제어 문자를 쓸 수 없습니다.",
        Code::PasswordInvalid => "비밀번호는 8~200자입니다.",
        Code::PasswordWrong => "아이디 또는 비밀번호가 맞지 않습니다.",
        Code::PasswordChanged => "확인하는 동안 비밀번호가 바뀌었습니다. 다시 시도하세요.",
        Code::SecretWrong => "이 기기는 로그아웃되었거나 등록되어 있지 않습니다.",
        Code::LoggedOut => "이 기기는 로그아웃되었습니다.",
        Code::Replaced => "같은 기기가 다른 곳에서 다시 연결되어 이 연결은 끝났습니다.",
        Code::RateLimited => "요청이 너무 많습니다. 잠시 후 다시 시도하세요.",
        Code::Busy | Code::Unavailable => "서버가 지금은 처리하지 못합니다. 아무것도 바뀌지 않았습니다.",
        Code::OutcomeUnknown => "응답이 늦어지고 있습니다. 처리되었을 수도 있습니다.",
        Code::ShuttingDown => "서버가 종료되는 중입니다. 다시 연결하세요.",
        Code::TooManySessions => "서버나 이 주소의 접속 수가 한도에 이르렀습니다.",
        Code::Internal => "서버의 오류입니다. 아무것도 바뀌지 않았습니다.",
        Code::RoomUnknown => "그런 방이 없거나 참여하고 있지 않습니다.",
        Code::UserUnknown => "그런 사람이 없습니다.",
        Code::MessageUnknown => "그런 메시지가 없거나 볼 수 없습니다.",
        Code::NotAllowed => "권한이 없습니다.",
        Code::NotAMember => "이 방의 참여자가 아닙니다.",
        Code::NotYourself => "자기 자신에게는 할 수 없습니다.",
        Code::TextEmpty => "내용이 비어 있습니다.",
        Code::TextTooLong => "내용이 10,000자를 넘습니다.",
        Code::RoomFull => "방의 정원 3,000명이 찼습니다.",
        Code::EditTooLate => "수정할 수 있는 시간이 지났습니다.",
        Code::DeleteTooLate => "모두에게서 삭제할 수 있는 시간이 지났습니다.",
        Code::MessageDeleted => "삭제된 메시지입니다.",
        Code::WrongRoomKind => "이 방에서는 할 수 없습니다.",
        Code::TooMany => "한 번에 처리할 수 있는 수를 넘었습니다.",
        Code::TooManyDevices => "기기 20대가 모두 로그인되어 있습니다. 한 대를 로그아웃하세요.",
        Code::TooManyRooms => "참여할 수 있는 방의 수를 넘었습니다.",
        Code::DeviceUnknown => "그런 기기가 없습니다.",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_is_set_names_the_language() {
        let with = |pairs: &'static [(&str, &str)]| {
            Language::of(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(with(&[]), Language::English);
        assert_eq!(with(&[("LANG", "ko_KR.UTF-8")]), Language::Korean);
        assert_eq!(with(&[("LANG", "ko_KR.UTF-8"), ("LC_ALL", "C")]), Language::English);
        assert_eq!(with(&[("LANG", "en_US.UTF-8"), ("LC_MESSAGES", "ko.UTF-8"), ("LC_ALL", "")]), Language::Korean);
        assert_eq!(with(&[("LANG", "kok_IN")]), Language::English, "Konkani is not Korean");
    }

    #[test]
    fn what_was_not_done_is_known_again_by_how_it_begins() {
        let why = Failure::Rejected(Box::new(Code::TextTooLong.problem()));
        let said = |change: &Change| not_done(&serde_json::to_string(change).unwrap(), &why);
        let long = said(&Change::Send { room: 1, text: format!("첫 줄\n{}", "가".repeat(100)), reply_to: None });
        assert!(long.starts_with("not done: ") && long.ends_with(&format!(": 첫 줄 {}…", "가".repeat(36))), "{long}");
        assert!(said(&Change::Edit { room: 1, seq: 2, text: "응".to_owned() }).ends_with(": 응"));
        assert!(said(&Change::Delete { room: 1, seq: 2 }).ends_with(": deleting #1/2"));
        assert!(not_done("from the future", &why).contains("(text_too_long)"));
    }

    #[test]
    fn a_problem_moves_no_cursor() {
        let evil = "\u{1b}]0;x\u{7}\n".to_owned();
        let told = Problem { title: evil.clone(), code: evil.clone(), ..Code::Internal.problem().detail(evil) };
        assert!(!problem(&told).contains(char::is_control));
    }

    #[test]
    fn a_problem_keeps_its_code_and_its_detail() {
        let told = Code::BadRequest.problem().detail("limit must be a number");
        assert!(problem(&told).ends_with("(bad_request): limit must be a number"));
    }
}
