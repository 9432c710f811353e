//! Which server is tried next.

use crate::Endpoint;

/// Most servers that are remembered from what servers said, all in all.
const MOST_LEARNED: usize = 16;

/// The servers that are known: those that the app named, which stay, and those that servers named.
#[derive(Debug)]
pub(crate) struct Endpoints {
    known: Vec<Known>,
    current: Option<Endpoint>,
    /// Goes up with each failure.
    failures: u64,
    /// All that the app named use TLS, so nobody may talk the client out of it.
    tls_only: bool,
}

#[derive(Debug)]
struct Known {
    endpoint: Endpoint,
    named_by_app: bool,
    /// When it failed last, counted in failures; 0 if it did not, or has worked since.
    failed: u64,
}

impl Endpoints {
    pub(crate) fn new(named: Vec<Endpoint>) -> Self {
        let tls_only = named.iter().all(|endpoint| endpoint.tls);
        let mut endpoints = Self { known: Vec::new(), current: None, failures: 0, tls_only };
        for endpoint in named {
            endpoints.add(endpoint, true);
        }
        endpoints
    }

    fn add(&mut self, endpoint: Endpoint, named_by_app: bool) {
        if self.known.iter().any(|known| known.endpoint == endpoint) {
            return;
        }
        let learned = self.known.iter().filter(|known| !known.named_by_app).count();
        if !named_by_app && learned >= MOST_LEARNED {
            self.drop_one();
        }
        self.known.push(Known { endpoint, named_by_app, failed: 0 });
    }

    /// Forgets the learned one that failed longest ago, or one that never did if none has: servers that name ever more would make
    /// the client grow, and a round through them never end.
    fn drop_one(&mut self) {
        let current = self.current.as_ref();
        let learned = |known: &Known| !known.named_by_app && Some(&known.endpoint) != current;
        let candidates = self.known.iter().enumerate().filter(|(_, known)| learned(known));
        let oldest = candidates.min_by_key(|(_, known)| (known.failed == 0, known.failed)).map(|(at, _)| at);
        if let Some(at) = oldest {
            self.known.remove(at);
        }
    }

    /// How many attempts make a round: the number of servers, at least 1 and bounded, so that nothing that servers name keeps the
    /// waits between attempts short.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.known.len().clamp(1, MOST_LEARNED)).unwrap_or(1)
    }

    /// The one in use or in use last.
    pub(crate) fn current(&self) -> Option<&Endpoint> {
        self.current.as_ref()
    }

    /// The next to try: of those whose last failure lies furthest back the one in use, or any.
    pub(crate) fn pick(&mut self, random: u64) -> Option<Endpoint> {
        let oldest = self.known.iter().map(|known| known.failed).min()?;
        let best: Vec<&Endpoint> =
            self.known.iter().filter(|known| known.failed == oldest).map(|known| &known.endpoint).collect();
        let index = usize::try_from(random % (best.len() as u64)).unwrap_or(0);
        let current = self.current.as_ref().filter(|current| best.contains(current));
        let picked = current.or(best.get(index).copied()).cloned();
        self.current.clone_from(&picked);
        picked
    }

    /// The one in use failed: others go first.
    pub(crate) fn failed(&mut self) {
        self.failures += 1;
        let failures = self.failures;
        self.mark_current(failures);
    }

    /// The one in use works.
    pub(crate) fn works(&mut self) {
        self.mark_current(0);
    }

    fn mark_current(&mut self, failed: u64) {
        let current = self.current.as_ref();
        if let Some(known) = self.known.iter_mut().find(|known| Some(&known.endpoint) == current) {
            known.failed = failed;
        }
    }

    /// A server named the others of its cell: what was learned before and is not among them is forgotten.
    pub(crate) fn learn(&mut self, named: &[String]) {
        if named.is_empty() {
            return;
        }
        let named = self.read(named);
        let current = self.current.as_ref();
        self.known
            .retain(|known| known.named_by_app || Some(&known.endpoint) == current || named.contains(&known.endpoint));
        for endpoint in named {
            self.add(endpoint, false);
        }
    }

    /// A server said where else to try: there first.
    pub(crate) fn prefer(&mut self, named: &[String]) {
        for endpoint in self.read(named) {
            self.add(endpoint.clone(), false);
            if self.current.as_ref() != Some(&endpoint)
                && let Some(known) = self.known.iter_mut().find(|known| known.endpoint == endpoint)
            {
                known.failed = 0;
            }
        }
    }

    fn read(&self, named: &[String]) -> Vec<Endpoint> {
        let read = named.iter().filter_map(|text| text.parse().ok());
        read.filter(|endpoint: &Endpoint| endpoint.tls || !self.tls_only).take(MOST_LEARNED).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(named: &[&str]) -> Endpoints {
        Endpoints::new(named.iter().map(|text| text.parse().unwrap()).collect())
    }

    fn picked(endpoints: &mut Endpoints) -> String {
        endpoints.pick(0).unwrap().to_string()
    }

    #[test]
    fn one_that_works_is_kept_and_one_that_failed_comes_last() {
        let mut endpoints = endpoints(&["ws://a:1", "ws://b:1", "ws://c:1"]);
        assert_eq!(picked(&mut endpoints), "ws://a:1");
        assert_eq!(picked(&mut endpoints), "ws://a:1");
        for next in ["ws://b:1", "ws://c:1", "ws://a:1", "ws://b:1"] {
            endpoints.failed();
            assert_eq!(picked(&mut endpoints), next);
        }
        endpoints.works();
        assert_eq!(picked(&mut endpoints), "ws://b:1");
    }

    #[test]
    fn what_servers_name_replaces_what_they_named_before() {
        let mut endpoints = endpoints(&["ws://a:1"]);
        picked(&mut endpoints);
        endpoints.learn(&["ws://b:1".into(), "nonsense".into()]);
        endpoints.learn(&["ws://c:1".into()]);
        assert_eq!(endpoints.count(), 2);
        endpoints.failed();
        assert_eq!(picked(&mut endpoints), "ws://c:1");
        endpoints.failed();
        endpoints.prefer(&["ws://d:1".into()]);
        assert_eq!(picked(&mut endpoints), "ws://d:1");
    }

    #[test]
    fn servers_cannot_name_more_than_the_client_remembers() {
        let mut endpoints = endpoints(&["ws://a:1"]);
        for round in 0..100 {
            picked(&mut endpoints);
            endpoints.failed();
            let named: Vec<String> = (0..16).map(|n| format!("ws://{round}.{n}:1")).collect();
            endpoints.prefer(&named);
            assert!(endpoints.known.len() <= MOST_LEARNED + 1, "{}", endpoints.known.len());
        }
        assert!(endpoints.known.iter().any(|known| known.named_by_app));
        assert!(endpoints.count() <= 16);
    }

    #[test]
    fn of_the_learned_the_one_that_failed_longest_ago_goes_first() {
        let mut endpoints = endpoints(&["ws://a:1"]);
        endpoints.learn(&(0..16).map(|n| format!("ws://{n}:1")).collect::<Vec<_>>());
        for n in [5, 3] {
            endpoints.current = Some(format!("ws://{n}:1").parse().unwrap());
            endpoints.failed();
        }
        endpoints.current = None;
        let has = |endpoints: &Endpoints, text: &str| endpoints.known.iter().any(|k| k.endpoint.to_string() == text);
        endpoints.prefer(&["ws://new:1".into()]);
        assert!(!has(&endpoints, "ws://5:1") && has(&endpoints, "ws://3:1") && has(&endpoints, "ws://new:1"));
        endpoints.prefer(&["ws://newer:1".into()]);
        assert!(!has(&endpoints, "ws://3:1") && has(&endpoints, "ws://0:1"));
    }

    #[test]
    fn nobody_talks_a_client_out_of_tls() {
        let mut endpoints = endpoints(&["wss://a:1"]);
        endpoints.learn(&["ws://evil:1".into(), "wss://b:1".into()]);
        assert_eq!(endpoints.count(), 2);
    }
}
