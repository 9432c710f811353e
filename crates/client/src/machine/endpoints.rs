//! Which server is tried next.

use crate::Endpoint;

/// Most servers that are remembered from what servers said, all in all.
const MOST_LEARNED: usize = 16;

/// The servers that are known: those that the app named, which stay, and those that servers named.
#[derive(Debug)]
pub(crate) struct Endpoints {
    known: Vec<Known>,
    /// The one in use or in use last.
    current: Option<Endpoint>,
    /// The one that the app likes best.
    home: Option<Endpoint>,
    /// Those that a server named last as the cell's, as it wrote them.
    named: Vec<String>,
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
    /// Those that the app named, among them the one that it likes best, and those that servers named in an earlier process.
    pub(crate) fn new(mut by_app: Vec<Endpoint>, home: Option<Endpoint>, named: Vec<String>) -> Self {
        by_app.extend(home.clone());
        let tls_only = by_app.iter().all(|endpoint| endpoint.tls);
        let mut endpoints = Self { known: Vec::new(), current: None, home, named: Vec::new(), failures: 0, tls_only };
        for endpoint in by_app {
            endpoints.add(endpoint, true);
        }
        endpoints.learn(&named);
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

    /// The next to try: of those whose last failure lies furthest back the one in use, else the one that the app likes best, else any.
    pub(crate) fn pick(&mut self, random: u64) -> Option<Endpoint> {
        let picked = self.pick_but(&[], random);
        self.current.clone_from(&picked);
        picked
    }

    /// The same of those that are not `busy`, without being in use from then on.
    pub(crate) fn pick_but(&self, busy: &[&Endpoint], random: u64) -> Option<Endpoint> {
        let free = || self.known.iter().filter(|known| !busy.contains(&&known.endpoint));
        let oldest = free().map(|known| known.failed).min()?;
        let best: Vec<&Endpoint> = free().filter(|known| known.failed == oldest).map(|known| &known.endpoint).collect();
        let index = usize::try_from(random % (best.len() as u64)).unwrap_or(0);
        let liked = [&self.current, &self.home].into_iter().flatten().find(|liked| best.contains(liked));
        liked.or(best.get(index).copied()).cloned()
    }

    /// This one is in use from now on.
    pub(crate) fn uses(&mut self, endpoint: &Endpoint) {
        self.current = Some(endpoint.clone());
    }

    /// The one that the app likes best, if it is not in use and the cell's servers say that it is there.
    pub(crate) fn home_from(&self, here: &Endpoint) -> Option<Endpoint> {
        let home = self.home.as_ref().filter(|home| *home != here)?;
        let there = self.named.iter().filter_map(|text| text.parse().ok()).any(|named: Endpoint| named == *home);
        (there || self.named.is_empty()).then(|| home.clone())
    }

    /// This one failed: others go first.
    pub(crate) fn failed(&mut self, endpoint: &Endpoint) {
        self.failures += 1;
        let failures = self.failures;
        self.mark(endpoint, failures);
    }

    /// This one works.
    pub(crate) fn works(&mut self, endpoint: &Endpoint) {
        self.mark(endpoint, 0);
    }

    fn mark(&mut self, endpoint: &Endpoint, failed: u64) {
        if let Some(known) = self.known.iter_mut().find(|known| known.endpoint == *endpoint) {
            known.failed = failed;
        }
    }

    /// A server named those of its cell: what was learned before and is not among them is forgotten. Tells whether that is news, to be
    /// remembered.
    pub(crate) fn learn(&mut self, named: &[String]) -> bool {
        let read = self.read(named);
        if read.is_empty() {
            return false;
        }
        let current = self.current.as_ref();
        self.known
            .retain(|known| known.named_by_app || Some(&known.endpoint) == current || read.contains(&known.endpoint));
        let names: Vec<String> = read.iter().map(ToString::to_string).collect();
        for endpoint in read {
            self.add(endpoint, false);
        }
        let news = names != self.named;
        self.named = names;
        news
    }

    /// Those that a server named last as the cell's.
    pub(crate) fn named(&self) -> &[String] {
        &self.named
    }

    /// The server at `from` said where else to try: there first. Tells whether it named another than itself.
    pub(crate) fn prefer(&mut self, named: &[String], from: &Endpoint) -> bool {
        let mut others = false;
        for endpoint in self.read(named) {
            self.add(endpoint.clone(), false);
            if endpoint != *from {
                others = true;
                self.mark(&endpoint, 0);
            }
        }
        others
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
        Endpoints::new(named.iter().map(|text| text.parse().unwrap()).collect(), None, Vec::new())
    }

    fn picked(endpoints: &mut Endpoints) -> String {
        endpoints.pick(0).unwrap().to_string()
    }

    /// The one in use failed.
    fn fail(endpoints: &mut Endpoints) {
        let current = endpoints.current.clone().unwrap();
        endpoints.failed(&current);
    }

    fn at(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    #[test]
    fn one_that_works_is_kept_and_one_that_failed_comes_last() {
        let mut endpoints = endpoints(&["ws://a:1", "ws://b:1", "ws://c:1"]);
        assert_eq!(picked(&mut endpoints), "ws://a:1");
        assert_eq!(picked(&mut endpoints), "ws://a:1");
        for next in ["ws://b:1", "ws://c:1", "ws://a:1", "ws://b:1"] {
            fail(&mut endpoints);
            assert_eq!(picked(&mut endpoints), next);
        }
        endpoints.works(&at("ws://b:1"));
        assert_eq!(picked(&mut endpoints), "ws://b:1");
    }

    #[test]
    fn what_servers_name_replaces_what_they_named_before() {
        let mut endpoints = endpoints(&["ws://a:1"]);
        picked(&mut endpoints);
        endpoints.learn(&["ws://b:1".into(), "nonsense".into()]);
        endpoints.learn(&["ws://c:1".into()]);
        assert_eq!(endpoints.count(), 2);
        fail(&mut endpoints);
        assert_eq!(picked(&mut endpoints), "ws://c:1");
        fail(&mut endpoints);
        assert!(endpoints.prefer(&["ws://d:1".into()], &at("ws://c:1")));
        assert_eq!(picked(&mut endpoints), "ws://d:1");
    }

    #[test]
    fn servers_cannot_name_more_than_the_client_remembers() {
        let mut endpoints = endpoints(&["ws://a:1"]);
        for round in 0..100 {
            picked(&mut endpoints);
            fail(&mut endpoints);
            let named: Vec<String> = (0..16).map(|n| format!("ws://{round}.{n}:1")).collect();
            let current = endpoints.current.clone().unwrap();
            endpoints.prefer(&named, &current);
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
            endpoints.failed(&at(&format!("ws://{n}:1")));
        }
        endpoints.current = None;
        let has = |endpoints: &Endpoints, text: &str| endpoints.known.iter().any(|k| k.endpoint.to_string() == text);
        endpoints.prefer(&["ws://new:1".into()], &at("ws://a:1"));
        assert!(!has(&endpoints, "ws://5:1") && has(&endpoints, "ws://3:1") && has(&endpoints, "ws://new:1"));
        endpoints.prefer(&["ws://newer:1".into()], &at("ws://a:1"));
        assert!(!has(&endpoints, "ws://3:1") && has(&endpoints, "ws://0:1"));
    }

    #[test]
    fn the_one_that_the_app_likes_best_goes_first_until_it_fails() {
        let (home, named) = (at("ws://b:1"), vec!["ws://c:1".to_owned(), "ws://d:1".to_owned()]);
        let mut endpoints = Endpoints::new(vec![at("ws://a:1")], Some(home.clone()), named.clone());
        assert_eq!(endpoints.count(), 4, "what servers named in an earlier process is known");
        assert_eq!(picked(&mut endpoints), "ws://b:1");
        fail(&mut endpoints);
        let next = picked(&mut endpoints);
        assert_ne!(next, "ws://b:1");
        assert_eq!(endpoints.home_from(&at(&next)), None, "the servers say that it is not there");
        assert!(endpoints.learn(&["ws://b:1".into(), "ws://c:1".into()]));
        assert!(!endpoints.learn(&["ws://b:1".into(), "ws://c:1".into()]), "no news");
        assert_eq!(endpoints.home_from(&at(&next)), Some(home.clone()));
        assert_eq!(endpoints.home_from(&home), None);
    }

    #[test]
    fn those_that_are_busy_are_not_picked() {
        let mut endpoints = endpoints(&["ws://a:1", "ws://b:1"]);
        picked(&mut endpoints);
        let (a, b) = (at("ws://a:1"), at("ws://b:1"));
        assert_eq!(endpoints.pick_but(&[&a], 7), Some(b.clone()));
        assert_eq!(endpoints.pick_but(&[&a, &b], 7), None);
        assert!(!endpoints.prefer(&["ws://a:1".into()], &a), "it named only itself");
    }

    #[test]
    fn nobody_talks_a_client_out_of_tls() {
        let mut endpoints = endpoints(&["wss://a:1"]);
        endpoints.learn(&["ws://evil:1".into(), "wss://b:1".into()]);
        assert_eq!(endpoints.count(), 2);
    }
}
