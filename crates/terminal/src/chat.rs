//! Sending, following and chatting.

use std::time::Duration;

use ieum_client::{Client, CommandId, Delivery, Events, Http, Page, State};
use ieum_protocol::frames::{Change, Done};
use ieum_protocol::objects::Role;
use tokio::sync::watch;

use crate::Settings;
use crate::device::{self, Device};
use crate::error::Error;
use crate::inbox::{Inbox, Watched};
use crate::interrupt::Interrupt;
use crate::line::{Here, Line};
use crate::names::{Names, title};
use crate::notices::Notices;
use crate::reading::Reading;
use crate::text::{label, lines, note, say};
use crate::words::{self, Language, language, words};

/// How long a single message may wait for its outcome until the person hears of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the end of a chat waits for what is not confirmed yet.
const FAREWELL: Duration = Duration::from_secs(10);

const HELP_ENGLISH: &str = "\
What begins with / is a command, everything else is sent (a text that begins with / is written with //).
  /to HANDLE            talk to somebody          /room ID              go to a room
  /rooms                your rooms                /history [N]          the last messages
  /reply N TEXT         answer message N          /edit N TEXT          say message N better
  /delete N             take message N back       /members              who is here
  /group NAME HANDLE…   make a group              /invite HANDLE…       bring people in
  /remove HANDLE        remove a member           /role HANDLE ROLE     member, manager or owner
  /rename NAME          rename the group          /leave                leave the group
  /quit                 end";

const HELP_KOREAN: &str = "\
/로 시작하면 명령이고, 나머지는 메시지로 전송됩니다 (/로 시작하는 글은 //로 쓰세요).
  /to 아이디            대화 상대 정하기          /room 번호            방으로 가기
  /rooms                내 방 목록                /history [개수]       지난 메시지
  /reply 번호 글        메시지에 답장             /edit 번호 글         메시지 수정
  /delete 번호          모두에게서 삭제           /members              참여자
  /group 이름 아이디…   그룹 만들기               /invite 아이디…       초대
  /remove 아이디        내보내기                  /role 아이디 역할     member, manager, owner
  /rename 이름          그룹 이름 바꾸기          /leave                나가기
  /quit                 끝내기";

pub(crate) async fn send(settings: &Settings, to: &str, text: String) -> Result<(), Error> {
    let mut interrupt = Interrupt::listen()?;
    let device = Device::open(settings).await?;
    let room = interrupt.or(device::room(&device.http, to)).await?;
    let (client, mut events, _) = device.connect(settings)?;
    let sending = async {
        let id = client.post(Change::Send { room, text, reply_to: None }).await?;
        outcome(&mut events, id).await
    };
    let sending = async { tokio::time::timeout(PATIENCE, sending).await.map_err(|_| Error::NotYetSent)? };
    let sent = interrupt.or(sending).await;
    if matches!(sent, Err(Error::Interrupted)) {
        note(&words!(
            "the message is kept, and goes out with the next send, tail or chat",
            "메시지는 보관되어 다음 send, tail, chat 때 전송됩니다"
        ));
    }
    client.close().await;
    let seq = sent?.seq.unwrap_or(0);
    say(&words!("sent: room {room}, message {seq}", "보냈습니다: 방 {room}, 메시지 {seq}"))
}

/// Waits for what becomes of a command. What becomes of those before it, which an earlier process left, nobody else says.
async fn outcome(events: &mut Events, own: CommandId) -> Result<Done, Error> {
    let mut notices = Notices::of_failures();
    while let Some(delivery) = events.next().await {
        match delivery {
            Delivery::Outcome { id, result, .. } if id == own => return Ok(result?),
            Delivery::Outcome { body, result: Err(failure), .. } => note(&words::not_done(&body, &failure)),
            Delivery::State(State::Stopped(why)) => words::closed(why)?,
            Delivery::State(state) => notices.say(&state),
            _ => {}
        }
    }
    Err(Error::Ended)
}

pub(crate) async fn tail(settings: &Settings, json: bool) -> Result<(), Error> {
    let mut interrupt = Interrupt::listen()?;
    let (client, events, http) = Device::open(settings).await?.connect(settings)?;
    let result = tokio::select! {
        result = Inbox::new(http, json).print(events) => result,
        () = interrupt.came() => Ok(()),
    };
    client.close().await;
    result
}

pub(crate) async fn chat(settings: &Settings, to: Option<&str>) -> Result<(), Error> {
    let mut interrupt = Interrupt::listen()?;
    let device = Device::open(settings).await?;
    let room = match to {
        Some(to) => Some(interrupt.or(device::room(&device.http, to)).await?),
        None => None,
    };
    let me = device.identity.user;
    let (client, events, http) = device.connect(settings)?;
    let reading = Reading::start(http.clone());
    let room = watch::Sender::new(room);
    let watched = Watched { room: room.subscribe(), shown: reading.shown(), me };
    // In a task of its own: while nobody takes deliveries, the connection is not read.
    let mut printing = tokio::spawn(Inbox::new(http.clone(), false).watching(watched).print(events));
    let mut chat = Chat { client, names: Names::new(http.clone()), http, room, reading };
    chat.say_room();
    let result = tokio::select! {
        result = chat.converse() => result,
        // It stopped: the server said so, or nobody reads the output.
        printed = &mut printing => return printed?,
        () = interrupt.came() => Ok(()),
    };
    chat.finish().await;
    result.and(printing.await?)
}

struct Chat {
    client: Client,
    http: Http,
    names: Names,
    /// The current one.
    room: watch::Sender<Option<u64>>,
    reading: Reading,
}

impl Chat {
    /// Takes lines until the last.
    async fn converse(&mut self) -> Result<(), Error> {
        let mut lines = lines();
        while let Some(line) = lines.recv().await {
            let taken = match line {
                Ok(line) => self.take(Line::read(&line)).await,
                Err(error @ Error::NotText) => Err(error),
                Err(error) => return Err(error),
            };
            match taken {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) if error.output_closed() => return Err(error),
                Err(error) => note(&error.told()),
            }
        }
        Ok(())
    }

    /// Does what a line says; tells whether to go on.
    async fn take(&mut self, line: Line<'_>) -> Result<bool, Error> {
        match line {
            Line::Nothing => {}
            Line::Help => note(help()),
            Line::Quit => return Ok(false),
            Line::Rooms => self.rooms().await?,
            Line::Room(room) => self.enter(room).await?,
            Line::To(handle) => {
                let handle = device::handle(handle);
                let open = Change::OpenDirect { handle: handle.clone() };
                self.enter_new(&open, &[handle]).await?;
            }
            Line::Group(name, handles) => {
                let handles = written(&handles);
                let create = Change::CreateGroup { name: name.to_owned(), handles: handles.clone() };
                self.enter_new(&create, &handles).await?;
            }
            Line::Here(deed) => {
                let current = *self.room.borrow();
                match current {
                    Some(room) => self.within(room, deed).await?,
                    None => note(&words!(
                        "no room: /to HANDLE or /room ID first",
                        "방이 없습니다: 먼저 /to 아이디 또는 /room 번호"
                    )),
                }
            }
        }
        Ok(true)
    }

    /// What needs a room. Words of a person go through the outbox; the inbox tells if one is rejected.
    async fn within(&mut self, room: u64, deed: Here<'_>) -> Result<(), Error> {
        match deed {
            Here::Say(text) => self.post(Change::Send { room, text: text.to_owned(), reply_to: None }).await,
            Here::Reply(seq, text) => {
                self.post(Change::Send { room, text: text.to_owned(), reply_to: Some(seq) }).await
            }
            Here::Edit(seq, text) => self.post(Change::Edit { room, seq, text: text.to_owned() }).await,
            Here::Delete(seq) => self.post(Change::Delete { room, seq }).await,
            Here::History(count) => self.history(room, count).await,
            Here::Members => self.members(room).await,
            Here::Invite(handles) => {
                let handles = written(&handles);
                let invite = Change::Invite { room, handles: handles.clone() };
                device::naming(&self.http, &invite, &handles).await.map(drop)
            }
            Here::Remove(handle) => {
                let user = device::user(&self.http, handle).await?;
                self.change(&Change::Remove { room, user }).await.map(drop)
            }
            Here::Give(handle, role) => {
                let user = device::user(&self.http, handle).await?;
                self.change(&Change::GiveRole { room, user, role }).await.map(drop)
            }
            Here::Rename(name) => self.change(&Change::Rename { room, name: name.to_owned() }).await.map(drop),
            Here::Leave => {
                self.change(&Change::Leave { room }).await?;
                self.room.send_replace(None);
                Ok(())
            }
        }
    }

    async fn post(&self, change: Change) -> Result<(), Error> {
        self.client.post(change).await?;
        Ok(())
    }

    async fn change(&self, change: &Change) -> Result<Done, Error> {
        Ok(self.http.change(change).await?)
    }

    async fn enter_new(&mut self, change: &Change, handles: &[String]) -> Result<(), Error> {
        let room = device::naming(&self.http, change, handles).await?.room.ok_or(Error::NoRoom)?;
        self.enter(room).await
    }

    async fn enter(&mut self, room: u64) -> Result<(), Error> {
        introduce(&self.http, room).await?;
        self.room.send_replace(Some(room));
        Ok(())
    }

    /// Says where one is, beside what follows: it is the current room even if its name cannot be had just now.
    fn say_room(&self) {
        let Some(room) = *self.room.borrow() else { return note(help()) };
        let http = self.http.clone();
        tokio::spawn(async move {
            if let Err(error) = introduce(&http, room).await {
                note(&format!("#{room}: {}", error.told()));
            }
        });
    }

    async fn rooms(&self) -> Result<(), Error> {
        let mut after = None;
        loop {
            let page = self.http.rooms(after, None).await?;
            for room in &page.rooms {
                let (id, title, members, unread) = (room.id, title(room), room.members, room.unread);
                say(&words!(
                    "#{id} {title} ({members} members, {unread} unread)",
                    "#{id} {title} (참여자 {members}명, 안 읽음 {unread})"
                ))?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn members(&self, room: u64) -> Result<(), Error> {
        for member in self.http.members(room).await? {
            let role = match member.role {
                Role::Member => String::new(),
                Role::Manager => words!(", manager", ", 관리자"),
                Role::Owner => words!(", owner", ", 방장"),
            };
            say(&format!("{} (@{}{role})", label(&member.person.name), label(&member.person.handle)))?;
        }
        Ok(())
    }

    async fn history(&mut self, room: u64, count: u32) -> Result<(), Error> {
        let mut last = None;
        for message in self.http.messages(room, Page::Latest, count).await? {
            let unread = message.unread.filter(|unread| *unread > 0);
            let unread = unread.map(|n| words!("  ({n} have not read it)", "  (안 읽음 {n})")).unwrap_or_default();
            last = message.archived.is_none().then_some((room, message.seq));
            say(&format!("{}{unread}", self.names.line(room, &message).await))?;
        }
        if last.is_some() {
            self.reading.shown().send_replace(last);
        }
        Ok(())
    }

    /// Waits a while for what is not confirmed, then says goodbye.
    async fn finish(self) {
        if self.client.waiting().await.is_ok_and(|waiting| !waiting.is_empty()) {
            note(&words!(
                "waiting until everything is confirmed; Ctrl-C ends at once",
                "모두 확인될 때까지 기다립니다. Ctrl-C를 누르면 바로 끝납니다"
            ));
        }
        let emptied = async {
            while self.client.waiting().await.is_ok_and(|waiting| !waiting.is_empty()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(FAREWELL, emptied).await.is_err() {
            note(&words!(
                "not everything is confirmed yet; it is kept, and goes out with the next send, tail or chat",
                "아직 확인되지 않은 것이 있습니다. 보관되어 다음 send, tail, chat 때 전송됩니다"
            ));
        } else {
            self.reading.finish().await;
        }
        self.client.close().await;
    }
}

fn written(handles: &[&str]) -> Vec<String> {
    handles.iter().map(|handle| device::handle(handle)).collect()
}

async fn introduce(http: &Http, room: u64) -> Result<(), Error> {
    let about = http.room(room).await?;
    let (title, unread) = (title(&about), about.unread);
    note(&words!(
        "in #{room} {title}, {unread} unread: /history",
        "#{room} {title}, 안 읽은 메시지 {unread}개: /history"
    ));
    Ok(())
}

fn help() -> &'static str {
    match language() {
        Language::English => HELP_ENGLISH,
        Language::Korean => HELP_KOREAN,
    }
}
