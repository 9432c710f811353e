//! How much of what a client sends is read. Frames and bytes are counted as they are read, before anybody looks into them, and when a client
//! has sent more than it may, its socket is left unread until it may send again: TCP then holds it back. What it is sent goes on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ieum_planted::Bug;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::limits::Bucket;
use crate::options::{Limits, Rate};

/// A refused command counts as so many frames more: it takes no token, so that nobody is refused for having been refused, but each is answered
/// by itself. All that may be under way can be refused three times in a row without a pause, and a client waits before it sends again.
const REFUSED: u32 = 19;

/// What one session may send.
#[derive(Debug)]
struct Intake {
    frames: (Rate, Bucket),
    bytes: (Rate, Bucket),
    /// Read since it was counted last.
    new_frames: u32,
    new_bytes: u32,
}

impl Intake {
    fn new(limits: &Limits, now: Instant) -> Self {
        let full = |rate| (rate, Bucket::full(rate, now));
        Self { frames: full(limits.frames), bytes: full(limits.frame_bytes), new_frames: 0, new_bytes: 0 }
    }

    /// For how long nothing more may be read. What one read gives beyond what there are tokens for is owed, and kept back before the next.
    fn closed_for(&mut self, now: Instant) -> Duration {
        if Bug::FramesUnlimited.planted() {
            return Duration::ZERO;
        }
        let owed = |(rate, bucket): &mut (Rate, Bucket), cost: &mut u32| bucket.owe(std::mem::take(cost), *rate, now);
        owed(&mut self.frames, &mut self.new_frames).max(owed(&mut self.bytes, &mut self.new_bytes))
    }
}

/// Finds where frames end in what is read. The WebSocket itself tells only of whole messages, and one may come in any number of frames.
#[derive(Debug, Default)]
struct Ends {
    /// How many bytes of a frame's head were read.
    head: u8,
    /// The second of them: whether there is a mask, and the length or how many bytes tell it.
    second: u8,
    /// Behind the head now.
    in_body: bool,
    /// Bytes that are left of it, or their number as far as the head has told it.
    left: u64,
}

impl Ends {
    /// How many frames end in `bytes`, which follow those of the last call.
    fn count(&mut self, mut bytes: &[u8]) -> u32 {
        let mut ends = 0_u32;
        while let Some((first, rest)) = bytes.split_first() {
            if self.in_body {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= here as u64;
                bytes = bytes.get(here..).unwrap_or_default();
            } else {
                self.head(*first);
                bytes = rest;
            }
            if self.in_body && self.left == 0 {
                ends = ends.saturating_add(1);
                *self = Self::default();
            }
        }
        ends
    }

    fn head(&mut self, byte: u8) {
        self.head += 1;
        match self.head {
            1 => return,
            2 => self.second = byte,
            _ => self.left = self.left << 8 | u64::from(byte),
        }
        let (length, mask) = (self.second & 0x7f, if self.second & 0x80 > 0 { 4 } else { 0 });
        let longer = match length {
            126 => 2,
            127 => 8,
            _ => {
                self.left = u64::from(length);
                0
            }
        };
        if self.head == 2 + longer {
            self.in_body = true;
            self.left = self.left.saturating_add(mask);
        }
    }
}

/// A session's stream, of which no more is read than its client may send.
pub(crate) struct Metered<S> {
    stream: S,
    /// In a box, because a session's task has room for its stream in several places.
    meter: Box<Meter>,
}

struct Meter {
    intake: Intake,
    ends: Ends,
    /// Runs while nothing may be read.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Metered<S> {
    pub(crate) fn new(stream: S, limits: &Limits) -> Self {
        let intake = Intake::new(limits, tokio::time::Instant::now().into_std());
        Self { stream, meter: Box::new(Meter { intake, ends: Ends::default(), waiting: None }) }
    }

    /// So many of the commands in it were refused.
    pub(crate) fn refused(&mut self, commands: u32) {
        if !Bug::RefusalsFree.planted() {
            self.frames(commands.saturating_mul(REFUSED));
        }
    }

    fn frames(&mut self, more: u32) {
        let frames = &mut self.meter.intake.new_frames;
        *frames = frames.saturating_add(more);
    }
}

impl Meter {
    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                ready!(waiting.as_mut().poll(context));
                self.waiting = None;
            }
            let closed = self.intake.closed_for(tokio::time::Instant::now().into_std());
            if closed.is_zero() {
                return Poll::Ready(());
            }
            self.waiting = Some(Box::pin(sleep(closed)));
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.meter.poll_open(context));
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        let read = into.filled().get(before..).unwrap_or_default();
        let bytes = &mut self.meter.intake.new_bytes;
        *bytes = bytes.saturating_add(u32::try_from(read.len()).unwrap_or(u32::MAX));
        let frames = self.meter.ends.count(read);
        self.frames(frames);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    fn intake(frames: Rate, frame_bytes: Rate, now: Instant) -> Intake {
        Intake::new(&Limits { frames, frame_bytes, ..Options::default().limits }, now)
    }

    const PLENTY: Rate = Rate { per_second: 1_000_000, burst: 1_000_000 };

    #[test]
    fn what_is_read_beyond_the_limits_is_owed_before_the_next_read() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut frames = intake(Rate { per_second: 2, burst: 3 }, PLENTY, start);
        frames.new_frames = 2;
        assert_eq!(frames.closed_for(start), Duration::ZERO);
        frames.new_frames = 4;
        assert_eq!(frames.closed_for(start), Duration::from_secs(2), "three are owed, and one more must be there");
        assert_eq!(frames.closed_for(after(1_000)), Duration::from_secs(1));
        assert_eq!(frames.closed_for(after(2_000)), Duration::ZERO);
        let mut bytes = intake(PLENTY, Rate { per_second: 1_000, burst: 10_000 }, start);
        bytes.new_bytes = 10_999;
        assert_eq!(bytes.closed_for(start), Duration::from_secs(1));
        assert_eq!(bytes.closed_for(after(1_000)), Duration::ZERO);
        // However long it is quiet, no more than a burst is saved up.
        bytes.new_bytes = 10_000;
        assert_eq!(bytes.closed_for(after(100_000)), Duration::from_millis(1));
    }

    #[test]
    fn frames_end_where_they_end_however_they_are_cut() {
        let head = |second: u8, length: &[u8]| [&[0x00, second][..], length].concat();
        let body = |bytes: usize| vec![0x81; bytes];
        let mut all = Vec::new();
        for length in [0_usize, 1, 125] {
            all.extend([head(0x80 | length as u8, &[]), body(4 + length)].concat());
            all.extend([head(length as u8, &[]), body(length)].concat());
        }
        for length in [126_usize, 1_000] {
            all.extend([head(0x80 | 126, &(length as u16).to_be_bytes()), body(4 + length)].concat());
        }
        all.extend([head(0x80 | 127, &70_000_u64.to_be_bytes()), body(70_004)].concat());
        for cut in [1, 2, 3, 5, 7, 1_024, all.len()] {
            let mut ends = Ends::default();
            assert_eq!(all.chunks(cut).map(|bytes| ends.count(bytes)).sum::<u32>(), 9, "cut to {cut}");
            assert!(!ends.in_body && ends.head == 0);
            let most = ends.count(&head(0xff, &[0xff; 8]));
            assert_eq!((most, ends.count(&body(100))), (0, 0), "a length that no frame may have");
        }
    }

    #[test]
    fn all_that_may_be_under_way_is_read_without_a_pause() {
        let now = Instant::now();
        let mut intake = Intake::new(&Options::default().limits, now);
        intake.new_frames = ieum_protocol::MAX_IN_FLIGHT as u32;
        intake.new_bytes = (ieum_protocol::MAX_IN_FLIGHT * ieum_protocol::MAX_FRAME) as u32 - 1;
        assert_eq!(intake.closed_for(now), Duration::ZERO);
    }

    #[test]
    fn all_that_may_be_under_way_is_refused_three_times_without_a_pause() {
        let (now, stream) = (Instant::now(), tokio::io::empty());
        let mut metered = Metered::new(stream, &Options::default().limits);
        let in_flight = ieum_protocol::MAX_IN_FLIGHT as u32;
        for closed in [false, false, false, true] {
            metered.frames(in_flight);
            metered.refused(in_flight);
            assert_eq!(metered.meter.intake.closed_for(now) > Duration::ZERO, closed);
        }
    }
}
