//! Why something could not be done.

use std::io;
use std::path::PathBuf;

use ieum_client::{Failure, HttpError, OpenError, Stop, Untrustworthy, store};

use crate::words::{self, Language};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0:?} is no profile's name: use letters, digits, - and _")]
    ProfileName(String),
    #[error("there is no home folder: set IEUM_HOME")]
    NoHome,
    #[error("making the folder {} failed", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("removing {} failed", path.display())]
    Remove { path: PathBuf, source: io::Error },
    #[error("nobody is signed in on profile {0:?}: `ieum account register` or `ieum account login` first")]
    NobodySignedIn(String),
    #[error("profile {0:?} is signed in already: `ieum account logout` first, or give another --profile")]
    SignedInAlready(String),
    #[error("the account is there and this device is signed in to it, but that could not be kept")]
    NotKept(#[source] store::Error),
    #[error("no password: set {0} or give it as a line of the standard input")]
    NoPassword(String),
    #[error("the two passwords differ; nothing was done")]
    PasswordsDiffer,
    #[error("nobody has the handle {0:?}")]
    NobodyHas(String),
    #[error("the server's answer names no room")]
    NoRoom,
    #[error("interrupted")]
    Interrupted,
    #[error("{0} of the files were not imported, or not to their end")]
    FilesLeftOut(usize),
    #[error("listening for Ctrl-C failed")]
    Signals(#[source] io::Error),
    #[error("the client ended without saying why")]
    Ended,
    #[error("this line is not UTF-8, so it was not taken")]
    NotText,
    #[error("reading the certificate authorities in {} failed", path.display())]
    Authorities { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Untrustworthy(#[from] Untrustworthy),
    #[error("the server has not answered yet; the message is kept, and goes out with the next send, tail or chat")]
    NotYetSent,
    #[error("{file} has no title, so it cannot be known which chat it is: give --room NAME")]
    NoTitle { file: String },
    #[error("no file is a chat that can be read")]
    NothingUnderstood,
    #[error("{}", words::http_error(.0))]
    Http(#[from] HttpError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("{}", words::failure(.0))]
    Failure(#[from] Failure),
    #[error("{}", words::stop(.0))]
    Stopped(#[from] Stop),
    #[error(transparent)]
    Import(#[from] ieum_import::Error),
    #[error("writing the output failed")]
    Output(#[source] io::Error),
    #[error("reading the input failed")]
    Input(#[source] io::Error),
    #[error("a task of the client broke: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl Error {
    /// Whether nobody reads the output any more.
    pub(crate) fn output_closed(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What it says to a person. What is the machine's own (files, the network) keeps the machine's words behind it.
    pub(crate) fn told(&self) -> String {
        let korean = match words::language() {
            Language::Korean => self.korean(),
            Language::English => None,
        };
        let mut told = korean.unwrap_or_else(|| self.to_string());
        if matches!(self, Self::Http(_) | Self::Failure(_) | Self::Stopped(_)) {
            // These say all of it already.
            return told;
        }
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            told.push_str(&format!(": {error}"));
            source = error.source();
        }
        told
    }

    fn korean(&self) -> Option<String> {
        Some(match self {
            Self::ProfileName(name) => format!("{name:?}: 프로필 이름에는 글자, 숫자, -, _ 만 쓸 수 있습니다"),
            Self::NoHome => "홈 폴더가 없습니다: IEUM_HOME을 정하세요".to_owned(),
            Self::Folder { path, .. } => format!("{} 폴더를 만들지 못했습니다", path.display()),
            Self::Remove { path, .. } => format!("{}을(를) 지우지 못했습니다", path.display()),
            Self::NobodySignedIn(profile) => format!(
                "프로필 {profile:?}에 로그인되어 있지 않습니다: 먼저 `ieum account register` 또는 `ieum account login`"
            ),
            Self::SignedInAlready(profile) => format!(
                "프로필 {profile:?}에 이미 로그인되어 있습니다: `ieum account logout`을 하거나 다른 --profile을 쓰세요"
            ),
            Self::NotKept(_) => "계정이 만들어지고 로그인되었지만 이 기기에 저장하지 못했습니다".to_owned(),
            Self::NoPassword(variable) => format!("비밀번호가 없습니다: {variable}을(를) 정하거나 입력하세요"),
            Self::PasswordsDiffer => "두 비밀번호가 다릅니다. 아무것도 바뀌지 않았습니다".to_owned(),
            Self::NobodyHas(handle) => format!("아이디가 {handle:?}인 사람이 없습니다"),
            Self::NotYetSent => {
                "서버가 아직 응답하지 않았습니다. 메시지는 보관되어 다음 send, tail, chat 때 전송됩니다".to_owned()
            }
            Self::Interrupted => "중단했습니다".to_owned(),
            Self::FilesLeftOut(files) => format!("파일 {files}개를 전부 또는 일부 가져오지 못했습니다"),
            Self::Ended => "클라이언트가 이유 없이 끝났습니다".to_owned(),
            Self::NotText => "UTF-8이 아닌 줄이라 전송하지 않았습니다".to_owned(),
            Self::Authorities { path, .. } => format!("인증 기관 파일 {}을(를) 읽지 못했습니다", path.display()),
            Self::NoTitle { file } => format!("{file}에 제목이 없어 어느 대화인지 알 수 없습니다: --room 이름"),
            Self::NothingUnderstood => "읽을 수 있는 대화 파일이 없습니다".to_owned(),
            Self::Output(_) => "출력하지 못했습니다".to_owned(),
            Self::Input(_) => "입력을 읽지 못했습니다".to_owned(),
            _ => return None,
        })
    }
}
