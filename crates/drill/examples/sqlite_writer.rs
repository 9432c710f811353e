//! What the tests of SQLite on the file system that forgets run as another process, and kill. `ROLE` says what it does, `DATABASE` and
//! `SYNCHRONOUS` on what.

#![allow(clippy::expect_used, clippy::panic, reason = "whoever started it sees how it ends")]

use std::path::Path;

use rusqlite::Connection;

fn open(database: &Path, synchronous: &str) -> Connection {
    let connection = Connection::open(database).expect("open the database");
    connection.pragma_update(None, "journal_mode", "WAL").expect("set the journal mode");
    connection.pragma_update(None, "synchronous", synchronous).expect("set synchronous");
    connection
}

fn count(connection: &Connection) -> i64 {
    connection.query_row("SELECT count(*) FROM rows", [], |row| row.get(0)).expect("count")
}

fn main() {
    let get = |name| std::env::var(name).expect("only the other tests start this");
    let connection = open(get("DATABASE").as_ref(), &get("SYNCHRONOUS"));
    match get("ROLE").as_str() {
        "insert" => {
            connection.execute("CREATE TABLE rows (number INTEGER, filling BLOB)", []).expect("create");
            for number in 1_i64.. {
                connection.execute("INSERT INTO rows VALUES (?1, zeroblob(500))", [number]).expect("insert");
                println!("acknowledged {number}");
            }
        }
        "lock" => {
            connection.execute_batch("BEGIN IMMEDIATE").expect("lock");
            println!("locked");
            std::thread::park();
        }
        "look" => {
            println!("sees {}", count(&connection));
            while count(&connection) < 2 {}
            println!("sees 2");
        }
        role => panic!("no role {role}"),
    }
}
