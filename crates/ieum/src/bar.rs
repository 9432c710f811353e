//! How far long work is, on one line of a terminal; nothing where there is none.

use ieum_node::progress::Step;
use indicatif::{ProgressBar, ProgressStyle};

/// A line on standard error.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn new() -> Self {
        // indicatif shows nothing where standard error is no terminal.
        Self(ProgressBar::no_length())
    }

    pub(crate) fn show(&self, what: &str, done: u64, of: Option<u64>) {
        let template = if of.is_some() {
            "{msg}: [{bar:30}] {human_pos}/{human_len} ({eta})"
        } else {
            "{msg}: {human_pos} ({elapsed})"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style);
        }
        match of {
            Some(of) => self.0.set_length(of),
            None => self.0.unset_length(),
        }
        self.0.set_message(what.to_owned());
        self.0.set_position(done);
    }

    /// For work in this process.
    pub(crate) fn watch(&self) -> impl Fn(Step) + Sync + '_ {
        |Step { what, done, of }| self.show(what, done, of)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
