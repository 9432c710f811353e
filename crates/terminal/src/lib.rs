//! The terminal client: the subcommands of the `ieum` binary that speak to a server as a person does.

mod account;
mod chat;
mod clock;
mod device;
mod error;
mod import;
mod inbox;
mod interrupt;
mod line;
mod names;
mod notices;
mod printed;
mod reading;
mod text;
mod typing;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use ieum_client::Endpoint;

/// What a person does from a terminal.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Register, sign in and out.
    #[command(subcommand)]
    Account(Account),
    /// Send one message and wait until the cell has it.
    Send {
        #[command(flatten)]
        /// Which server, as whom.
        settings: Settings,
        /// A handle (`minji` or `@minji`), or a room's number. A handle of digits only needs the `@`.
        to: String,
        /// What to say.
        text: String,
    },
    /// Print what happens from now on, until interrupted.
    Tail {
        #[command(flatten)]
        /// Which server, as whom.
        settings: Settings,
        /// Every event as a line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Chat line by line; `/help` tells the commands.
    Chat {
        #[command(flatten)]
        /// Which server, as whom.
        settings: Settings,
        /// With whom to begin: as in `send`.
        to: Option<String>,
    },
    /// Import another messenger's exports into archive rooms.
    #[command(subcommand)]
    Import(Import),
}

/// What is done with an account.
#[derive(Debug, clap::Subcommand)]
pub enum Account {
    /// Make an account and sign this profile in. The password is `IEUM_PASSWORD`, or asked for, or a line of the standard input.
    Register {
        #[command(flatten)]
        /// Which server, as whom.
        settings: Settings,
        /// What one is found by: 3 to 30 of a-z, 0-9, `_`, `.`.
        #[arg(long)]
        handle: String,
        /// What one is called.
        #[arg(long)]
        name: String,
        /// Where registering takes one.
        #[arg(long)]
        invitation: Option<String>,
    },
    /// Sign this profile in. The password is `IEUM_PASSWORD`, or asked for, or a line of the standard input.
    Login {
        #[command(flatten)]
        /// Which server, as whom.
        settings: Settings,
        /// The account's handle.
        #[arg(long)]
        handle: String,
    },
    /// Say who this profile is.
    Whoami {
        #[command(flatten)]
        /// Which server, as whom.
        settings: Settings,
    },
    /// List the account's devices; `*` marks this one.
    Devices {
        #[command(flatten)]
        /// Which server, as whom.
        settings: Settings,
    },
    /// Log this profile's device out and forget it, or another device of the account.
    Logout {
        #[command(flatten)]
        /// Which server, as whom.
        settings: Settings,
        /// The other device's number, from `account devices`; it is signed out at once.
        #[arg(long)]
        device: Option<u64>,
    },
    /// Change the name that others see.
    Rename {
        #[command(flatten)]
        /// Which server, as whom.
        settings: Settings,
        /// The new name.
        name: String,
    },
    /// Change the password: `IEUM_PASSWORD` and `IEUM_NEW_PASSWORD`, or asked for, or two lines of the standard input. Devices
    /// stay signed in.
    Password {
        #[command(flatten)]
        /// Which server, as whom.
        settings: Settings,
    },
}

/// Whose exports.
#[derive(Debug, clap::Subcommand)]
pub enum Import {
    /// What KakaoTalk's "Export chat" wrote. Running it again adds only what is new.
    Kakaotalk {
        #[command(flatten)]
        /// Which server, as whom.
        settings: Settings,
        /// The exports; all parts of a split one at once.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The zone of the times in the files, an IANA name.
        #[arg(long, default_value = "Asia/Seoul")]
        timezone: String,
        /// Put every file into the room of this name.
        #[arg(long)]
        room: Option<String>,
        /// OLD in the files is the person whom the archive calls NEW.
        #[arg(long, value_name = "OLD=NEW", value_parser = import::alias)]
        same: Vec<(String, String)>,
    },
}

/// Which servers, and who one is.
#[derive(Debug, clap::Args)]
pub struct Settings {
    /// A server of the cell; several with commas between them.
    #[arg(long, env = "IEUM_SERVER", default_value = "http://127.0.0.1:8080", value_delimiter = ',')]
    server: Vec<Endpoint>,
    /// Names the device: each profile is signed in on its own.
    #[arg(long, env = "IEUM_PROFILE", default_value = "default")]
    profile: String,
    /// PEM file with certificate authorities to believe beside those that browsers trust, for servers with a company's own
    /// certificate.
    #[arg(long, env = "IEUM_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Does it, on a runtime of its own. Tells what the process is to end with.
///
/// # Errors
/// Why it could not be done.
pub fn run(command: Command) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(perform(command)) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // Whoever read the output has seen enough.
        Err(error) if error.output_closed() => Ok(ExitCode::SUCCESS),
        Err(error @ error::Error::Interrupted) => {
            text::note(&error.told());
            Ok(ExitCode::from(interrupt::CODE))
        }
        Err(error) => Err(text::harmless(&error.told()).into()),
    }
}

async fn perform(command: Command) -> Result<(), error::Error> {
    match command {
        Command::Account(Account::Register { settings, handle, name, invitation }) => {
            account::register(&settings, handle, name, invitation).await
        }
        Command::Account(Account::Login { settings, handle }) => account::login(&settings, &handle).await,
        Command::Account(Account::Whoami { settings }) => account::whoami(&settings).await,
        Command::Account(Account::Devices { settings }) => account::devices(&settings).await,
        Command::Account(Account::Logout { settings, device: None }) => account::logout(&settings).await,
        Command::Account(Account::Logout { settings, device: Some(device) }) => {
            account::log_out_other(&settings, device).await
        }
        Command::Account(Account::Rename { settings, name }) => account::rename(&settings, name).await,
        Command::Account(Account::Password { settings }) => account::change_password(&settings).await,
        Command::Send { settings, to, text } => chat::send(&settings, &to, text).await,
        Command::Tail { settings, json } => chat::tail(&settings, json).await,
        Command::Chat { settings, to } => chat::chat(&settings, to.as_deref()).await,
        Command::Import(Import::Kakaotalk { settings, files, timezone, room, same }) => {
            let options = ieum_import::Options {
                zone: ieum_import::Zone::named(&timezone)?,
                room,
                aliases: same.into_iter().collect(),
                limits: ieum_import::Limits::default(),
            };
            import::kakaotalk(&settings, &files, options).await
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    #[derive(Debug, Parser)]
    struct Arguments {
        #[command(subcommand)]
        command: super::Command,
    }

    #[test]
    fn the_arguments_agree_with_each_other() {
        Arguments::command().debug_assert();
        let line = ["ieum", "import", "kakaotalk", "a.txt", "b.txt", "--room", "산악회", "--same", "회원님=민지"];
        assert!(Arguments::try_parse_from(line).is_ok());
        assert!(Arguments::try_parse_from(["ieum", "send", "minji", "안녕", "--server", "ws://a,ws://b"]).is_ok());
        assert!(Arguments::try_parse_from(["ieum", "chat", "--server", "a"]).is_err());
        let help = Arguments::command().render_long_help().to_string();
        assert!(help.contains("Chat line by line"), "{help}");
    }
}
