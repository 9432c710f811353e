//! Connections between devices and the node: frames of one way arrive in order, each after a while of its own; connections do not wait for
//! each other. A cut ends a connection in the middle, with or without telling anybody.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::random::Random;

/// A connection.
pub(crate) type Link = u64;

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Client,
    Server,
}

/// What arrives.
#[derive(Debug, Clone)]
pub(crate) enum Parcel {
    Frame(Bytes),
    /// The connection is over.
    Over,
}

/// Frames on their way to one end.
#[derive(Debug, Default)]
struct Way {
    parcels: VecDeque<(u64, Parcel)>,
    bytes: usize,
    last: u64,
    /// The end where they arrive has closed.
    closed: bool,
}

#[derive(Debug)]
struct Connection {
    device: usize,
    /// How often a part of the log had been lost when it was made.
    age: usize,
    endpoint: usize,
    /// The longest that a frame takes, in milliseconds.
    slowness: u64,
    to_client: Way,
    to_server: Way,
    /// Frames vanish, and nobody is told.
    lost: bool,
    /// It is cut: nothing more gets through, and both ends learn of it.
    cut: bool,
    /// Cut after so many more frames to the client.
    doomed: Option<u64>,
    /// Nothing reaches the client after so many more frames, and nobody is told.
    fades: Option<u64>,
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Network {
    connections: BTreeMap<Link, Connection>,
    opened: Link,
    /// Connections are no longer cut by themselves.
    calm: bool,
}

impl Network {
    pub(crate) fn open(&mut self, device: usize, endpoint: usize, age: usize, random: &mut Random) -> Link {
        self.opened += 1;
        let slowness = if random.chance(100) { random.between(100, 600) } else { random.between(1, 40) };
        let doomed = (!self.calm && random.chance(300)).then(|| random.between(1, 400));
        let connection = Connection {
            device,
            age,
            endpoint,
            slowness,
            to_client: Way::default(),
            to_server: Way::default(),
            lost: false,
            cut: false,
            doomed,
            fades: None,
        };
        self.connections.insert(self.opened, connection);
        self.opened
    }

    pub(crate) fn device(&self, link: Link) -> Option<usize> {
        self.connections.get(&link).map(|connection| connection.device)
    }

    /// How often a part of the log had been lost when a connection was made.
    pub(crate) fn age(&self, link: Link) -> usize {
        self.connections.get(&link).map_or(usize::MAX, |connection| connection.age)
    }

    /// The endpoint that a connection was made to.
    pub(crate) fn endpoint(&self, link: Link) -> Option<usize> {
        self.connections.get(&link).map(|connection| connection.endpoint)
    }

    /// Connections that nobody has cut or lost, with their device and endpoint.
    pub(crate) fn healthy(&self) -> impl Iterator<Item = (Link, usize, usize)> {
        let healthy =
            self.connections.iter().filter(|(_, c)| !c.lost && !c.cut && !c.to_client.closed && !c.to_server.closed);
        healthy.map(|(link, c)| (*link, c.device, c.endpoint))
    }

    /// Bytes that the client has not taken yet.
    pub(crate) fn untaken(&self, link: Link) -> usize {
        self.connections.get(&link).map_or(0, |connection| connection.to_client.bytes)
    }

    pub(crate) fn count(&self) -> usize {
        self.connections.len()
    }

    /// Sends a frame to an end; says when it arrives there, if it does. True: the connection is to be cut now.
    pub(crate) fn send(
        &mut self,
        link: Link,
        to: End,
        frame: Bytes,
        now: u64,
        random: &mut Random,
    ) -> (Option<u64>, bool) {
        let Some(connection) = self.connections.get_mut(&link) else { return (None, false) };
        let after = random.between(1, connection.slowness.max(1));
        let lost = connection.lost;
        let way = if to == End::Client { &mut connection.to_client } else { &mut connection.to_server };
        if way.closed || connection.cut {
            return (None, false);
        }
        way.bytes += frame.len();
        if lost || (to == End::Client && connection.fades == Some(0)) {
            return (None, false);
        }
        if let Some(left) = connection.fades.as_mut().filter(|_| to == End::Client) {
            *left -= 1;
        }
        let at = way.put(now + after, Parcel::Frame(frame));
        let doomed = match &mut connection.doomed {
            Some(left) if to == End::Client => {
                *left -= 1;
                *left == 0
            }
            _ => false,
        };
        (Some(at), doomed)
    }

    /// Takes the next parcel that has arrived at an end.
    pub(crate) fn receive(&mut self, link: Link, at: End, now: u64) -> Option<Parcel> {
        let connection = self.connections.get_mut(&link)?;
        let way = if at == End::Client { &mut connection.to_client } else { &mut connection.to_server };
        let (arrives, _) = way.parcels.front()?;
        if *arrives > now {
            return None;
        }
        let (_, parcel) = way.parcels.pop_front()?;
        if let Parcel::Frame(frame) = &parcel {
            way.bytes -= frame.len();
        }
        Some(parcel)
    }

    /// An end closes: what it has sent still arrives, then the other end learns of it. Says when.
    pub(crate) fn close(&mut self, link: Link, end: End, now: u64) -> Option<u64> {
        let connection = self.connections.get_mut(&link)?;
        let (mine, other) = match end {
            End::Client => (&mut connection.to_client, &mut connection.to_server),
            End::Server => (&mut connection.to_server, &mut connection.to_client),
        };
        *mine = Way { closed: true, ..Way::default() };
        if other.closed {
            self.connections.remove(&link);
            return None;
        }
        if connection.lost || connection.cut { None } else { Some(other.put(now + connection.slowness, Parcel::Over)) }
    }

    /// Breaks a connection: what is under way is gone, both ends learn of it. Says when.
    pub(crate) fn cut(&mut self, link: Link, now: u64, random: &mut Random) -> Option<u64> {
        let connection = self.connections.get_mut(&link).filter(|connection| !connection.cut && !connection.lost)?;
        connection.cut = true;
        let mut at = now;
        for way in [&mut connection.to_client, &mut connection.to_server] {
            // Some of what was under way had passed the place already.
            let passed = random.index(way.parcels.len() + 1);
            way.parcels.truncate(passed);
            way.bytes = way.parcels.iter().map(|(_, parcel)| parcel.bytes()).sum();
            at = at.max(way.put(now + random.between(1, 50), Parcel::Over));
        }
        Some(at)
    }

    /// After so many more frames nothing reaches the client, and nobody is told.
    pub(crate) fn fade(&mut self, link: Link, frames: u64) {
        if let Some(connection) = self.connections.get_mut(&link) {
            connection.fades = Some(frames);
        }
    }

    /// From now on no connection is cut by itself.
    pub(crate) fn calm(&mut self) {
        self.calm = true;
        self.connections.values_mut().for_each(|connection| connection.doomed = None);
    }

    /// From now on everything vanishes, and nobody is told.
    pub(crate) fn lose(&mut self, link: Link) {
        if let Some(connection) = self.connections.get_mut(&link) {
            connection.lost = true;
            connection.to_client.parcels.clear();
            connection.to_server.parcels.clear();
        }
    }
}

impl Way {
    fn put(&mut self, at: u64, parcel: Parcel) -> u64 {
        self.last = self.last.max(at);
        self.parcels.push_back((self.last, parcel));
        self.last
    }
}

impl Parcel {
    fn bytes(&self) -> usize {
        match self {
            Self::Frame(frame) => frame.len(),
            Self::Over => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_one_way_arrive_in_order() {
        let (mut network, mut random) = (Network::default(), Random::new(1));
        let link = network.open(0, 0, 0, &mut random);
        let mut last = 0;
        for n in 0..50u8 {
            let (at, _) = network.send(link, End::Server, vec![n].into(), 10, &mut random);
            last = last.max(at.unwrap_or(0));
        }
        let arrived: Vec<u8> = std::iter::from_fn(|| match network.receive(link, End::Server, last) {
            Some(Parcel::Frame(frame)) => frame.first().copied(),
            _ => None,
        })
        .collect();
        assert_eq!(arrived, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_sent_before_closing_still_arrives() {
        let (mut network, mut random) = (Network::default(), Random::new(2));
        let link = network.open(0, 0, 0, &mut random);
        network.send(link, End::Server, Bytes::from_static(b"bye"), 0, &mut random);
        let over = network.close(link, End::Client, 0).unwrap();
        assert!(matches!(network.receive(link, End::Server, over), Some(Parcel::Frame(_))));
        assert!(matches!(network.receive(link, End::Server, over), Some(Parcel::Over)));
        network.close(link, End::Server, over);
        assert_eq!(network.count(), 0);
    }
}
