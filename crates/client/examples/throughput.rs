//! What a client costs: many clients in one process against a server in another that acknowledges everything and gives each sender
//! its own message back as an event.
//!
//! ```text
//! cargo build --release -p ieum-client --example throughput
//! target/release/examples/throughput server 127.0.0.1:9000 &
//! target/release/examples/throughput clients 127.0.0.1:9000 1000 4 10    # clients, messages under way each, seconds
//! ```

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use ieum_client::store::{Identity, Memory};
use ieum_client::{Client, CommandId, Delivery, Options};
use ieum_protocol::frames::{Change, ClientFrame};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["server", address] => server(address).await,
        ["clients", address, clients, window, seconds] => {
            run(address, clients.parse()?, window.parse()?, seconds.parse()?).await
        }
        _ => Err("throughput server ADDRESS | throughput clients ADDRESS CLIENTS WINDOW SECONDS".into()),
    }
}

async fn server(address: &str) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let _ = serve(stream).await;
        });
    }
}

#[allow(clippy::result_large_err, reason = "the library's own type")]
fn subprotocol(_: &Request, mut response: Response) -> std::result::Result<Response, ErrorResponse> {
    response
        .headers_mut()
        .insert("sec-websocket-protocol", ieum_protocol::SUBPROTOCOL.parse().map_err(|_| ErrorResponse::new(None))?);
    Ok(response)
}

async fn serve(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(4096);
    let mut socket = tokio_tungstenite::accept_hdr_async_with_config(stream, subprotocol, Some(config)).await?;
    while let Some(message) = socket.next().await {
        let Message::Text(text) = message? else { continue };
        match serde_json::from_str(&text)? {
            ClientFrame::Hello(_) => {
                socket.feed(r#"{"welcome":{"n":0,"pos":"1.1","user":1,"resync":true}}"#.into()).await?;
                socket.feed(r#"{"caught_up":{"pos":"1.1"}}"#.into()).await?;
            }
            ClientFrame::Typing(_) => {}
            ClientFrame::Ping(ping) => {
                socket.feed(format!(r#"{{"pong":{{"id":{},"pos":"1.1"}}}}"#, ping.id).into()).await?;
            }
            ClientFrame::Cmd(cmd) => {
                let n = cmd.n;
                let Change::Send { text, .. } = cmd.change else { continue };
                let message =
                    format!(r#"{{"message":{{"room":1,"seq":{n},"from":1,"time":1700000000000,"text":"{text}"}}}}"#);
                socket.feed(format!(r#"{{"events":{{"pos":"1.{n}","list":[{message}]}}}}"#).into()).await?;
                let ack = format!(r#"{{"ack":{{"n":{n},"pos":"1.{n}","ok":{{"seq":{n},"time":1700000000000}}}}}}"#);
                socket.feed(ack.into()).await?;
            }
        }
        socket.flush().await?;
    }
    Ok(())
}

async fn run(address: &str, clients: u64, window: u64, seconds: u64) -> Result<()> {
    let (acknowledged, events) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let failed = Arc::new(AtomicU64::new(0));
    let (free, mut freed) = tokio::sync::mpsc::unbounded_channel::<u64>();
    let before = memory()?;
    let mut handles = Vec::new();
    for device in 0..clients {
        let mut options = Options::new(vec![format!("ws://{address}").parse()?]);
        options.identity = Some(Identity { user: 1, device: device + 1, secret: "secret".into() });
        options.limits.kept = 0;
        let (acknowledged, events, free) = (Arc::clone(&acknowledged), Arc::clone(&events), free.clone());
        let failed = Arc::clone(&failed);
        let observer = move |delivery| match delivery {
            Delivery::Outcome { result, .. } => {
                let counter = if result.is_ok() { &acknowledged } else { &failed };
                counter.fetch_add(1, Ordering::Relaxed);
                let _ = free.send(device);
            }
            Delivery::Events { list, .. } => {
                events.fetch_add(list.len() as u64, Ordering::Relaxed);
            }
            _ => {}
        };
        handles.push(Client::observe(options, Memory::new(), observer)?);
    }
    for client in &handles {
        client.live().await?;
    }
    println!("{clients} clients connected, {} KiB each", (memory()? - before) / clients.max(1));
    for turn in 0..clients * window {
        free.send(turn % clients)?;
    }
    let text = "안녕하세요, 오늘 저녁에 시간 되세요?";
    let (start, cpu, mut sent) = (Instant::now(), cpu()?, 0_u128);
    while start.elapsed() < Duration::from_secs(seconds) {
        let Some(device) = freed.recv().await else { break };
        sent += 1;
        let change = Change::Send { room: 1, text: text.to_owned(), reply_to: None };
        if let Some(client) = handles.get(usize::try_from(device)?) {
            client.try_post(CommandId(sent), change)?;
        }
    }
    let (elapsed, used) = (start.elapsed().as_secs_f64(), cpu_since(cpu)?);
    let (done, heard) = (acknowledged.load(Ordering::Relaxed), events.load(Ordering::Relaxed));
    let rate = done as f64 / elapsed;
    println!("{rate:.0} messages/s acknowledged, {:.0} events/s", heard as f64 / elapsed);
    println!("{sent} sent, {done} acknowledged, {} failed", failed.load(Ordering::Relaxed));
    println!("{used:.1} s of processor in {elapsed:.1} s: {:.1} µs a message", used * 1e6 / done as f64);
    Ok(())
}

fn cpu_since(before: f64) -> Result<f64> {
    Ok(cpu()? - before)
}

/// Seconds of processor that this process has used, user and system.
fn cpu() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    Ok((ticks(11) + ticks(12)) / 100.0)
}

/// Resident memory in KiB.
fn memory() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
