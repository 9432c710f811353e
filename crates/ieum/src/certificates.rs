//! Until when the certificates are good that this node has read at its start. Afterwards nobody takes them, and the node is alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{self, CertificateError, RootCertStore};

use crate::config::{self, Config};

const DAY: u64 = 24 * 3_600;

/// For so long before one runs out it is said.
const WARN_DAYS: i64 = 30;

/// How often it is said.
const SAY_EVERY: Duration = Duration::from_secs(DAY);

/// A file with certificates that the node uses.
#[derive(Debug)]
pub(crate) struct Certificate {
    file: PathBuf,
    until: UnixTime,
}

/// All that the settings name. One that cannot be read is left out: whoever uses it says more.
pub(crate) fn read(config: &Config) -> Vec<Certificate> {
    let shown = config.listen.certificate.iter().map(PathBuf::as_path);
    let known = [&config.log.certificates, &config.peers.certificates].into_iter().flatten();
    let mut certificates: Vec<_> = shown.filter_map(|file| Certificate::read(file, Iterator::min)).collect();
    for config::Certificates { authority, certificate, .. } in known {
        // Of several authorities one that is good is enough; in a chain each has to be.
        let own = Certificate::read(certificate, Iterator::min);
        certificates.extend(own.into_iter().chain(Certificate::read(authority, Iterator::max)));
    }
    certificates.sort_by(|a, b| a.file.cmp(&b.file));
    certificates.dedup_by(|a, b| a.file == b.file);
    certificates
}

/// For how many seconds the first of them is still good.
pub(crate) fn seconds_left(certificates: &[Certificate]) -> Option<i64> {
    let now = UnixTime::now();
    certificates.iter().map(|certificate| certificate.seconds_left(now)).min()
}

/// Says every day which of them run out soon, for as long as somebody holds them.
pub(crate) async fn watch(certificates: std::sync::Weak<[Certificate]>) {
    let mut day = tokio::time::interval(SAY_EVERY);
    loop {
        day.tick().await;
        let Some(certificates) = certificates.upgrade() else { return };
        certificates.iter().for_each(|certificate| certificate.say(UnixTime::now()));
    }
}

impl Certificate {
    fn read(file: &Path, which: fn(std::vec::IntoIter<UnixTime>) -> Option<UnixTime>) -> Option<Self> {
        let unknown = |error: &(dyn std::error::Error + 'static)| {
            tracing::warn!(file = %file.display(), error, "until when a certificate is good is not known");
        };
        let all = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let all = all.map_err(|error| unknown(&error)).ok()?;
        let ends = all.iter().map(until).collect::<Result<Vec<_>, _>>();
        let ends = ends.map_err(|error| unknown(&error)).ok()?;
        Some(Self { file: file.to_owned(), until: which(ends.into_iter())? })
    }

    fn seconds_left(&self, now: UnixTime) -> i64 {
        let seconds = |time: UnixTime| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        seconds(self.until).saturating_sub(seconds(now))
    }

    /// Whole days, if they are so few that it is to be said.
    fn days_left(&self, now: UnixTime) -> Option<i64> {
        let days = self.seconds_left(now).div_euclid(DAY.cast_signed());
        (days < WARN_DAYS).then_some(days)
    }

    fn say(&self, now: UnixTime) {
        let file = self.file.display();
        match self.days_left(now) {
            None => {}
            Some(days @ 0..) => {
                tracing::warn!(%file, days, "a certificate runs out: put a new one in its place and restart the node");
            }
            Some(_) => {
                tracing::error!(%file, "alarm: a certificate has run out: put a new one in its place and restart the node");
            }
        }
    }
}

/// When a certificate runs out. rustls tells it of one that it refuses for that, as it does each at the end of time.
fn until(certificate: &CertificateDer<'_>) -> Result<UnixTime, rustls::Error> {
    let end = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    let known = ring::default_provider().signature_verification_algorithms.all;
    let certificate = ParsedCertificate::try_from(certificate)?;
    match verify_server_cert_signed_by_trust_anchor(&certificate, &RootCertStore::empty(), &[], end, known) {
        Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => Ok(not_after),
        Err(error) => Err(error),
        Ok(()) => Err(rustls::Error::General("it was not found to run out".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use ieum_drill::certificates::Authority;

    use super::*;

    /// 1975-01-01, from which on certificates of `drill` are good.
    const BEGIN: u64 = 157_766_400;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn the_end_of_a_certificate_and_of_its_authority_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(&folder.path().join("authority")).unwrap();
        let issue = |days: u64| {
            let lasting = Duration::from_secs(days * DAY);
            authority.issue(&["node"], |params| params.not_after = params.not_before + lasting).unwrap()
        };
        let (short, long) = (issue(40), issue(50));
        let read = |file: &Path| Certificate::read(file, Iterator::min).unwrap();
        let certificate = read(&short.certificate);
        assert_eq!(certificate.until, at(BEGIN + 40 * DAY));
        // Whatever signed it, and whether it may sign: an authority has an end, too.
        assert!(read(&short.authority).until > at(BEGIN + 50 * DAY));
        assert!(Certificate::read(&short.key, Iterator::min).is_none(), "a file without certificates");

        let several = folder.path().join("several.pem");
        let both = [&short, &long].map(|files| std::fs::read_to_string(&files.certificate).unwrap());
        std::fs::write(&several, both.concat()).unwrap();
        assert_eq!(Certificate::read(&several, Iterator::min).unwrap().until, at(BEGIN + 40 * DAY));
        assert_eq!(Certificate::read(&several, Iterator::max).unwrap().until, at(BEGIN + 50 * DAY));
    }

    #[test]
    fn the_last_thirty_days_are_said() {
        let certificate = Certificate { file: PathBuf::from("node.pem"), until: at(100 * DAY) };
        let said = |now: u64| certificate.days_left(at(now));
        assert_eq!(said(70 * DAY), None);
        assert_eq!(said(70 * DAY + 1), Some(29));
        assert_eq!(said(100 * DAY), Some(0));
        assert_eq!(said(100 * DAY + 1), Some(-1));
        assert_eq!(certificate.seconds_left(at(100 * DAY + 7)), -7);
    }
}
