//! Certificates: the node's own, by which etcd knows it, and the authority's, by which it knows etcd.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ieum_log::{Error, Result};
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{self, CertificateError, ClientConfig, Error as E, RootCertStore};

/// Where the certificates lie, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Of the authority that signed the members' certificates.
    pub authority: PathBuf,
    /// The node's own, with what lies between it and the authority that etcd trusts.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Certificates that cannot be used. The source of an [`Error::Engine`].
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("reading {}", file.display())]
    File {
        file: PathBuf,
        #[source]
        source: pem::Error,
    },
    #[error("{} holds no certificate that can be used", file.display())]
    Authority {
        file: PathBuf,
        #[source]
        source: Option<rustls::Error>,
    },
    #[error("{} and its key cannot be used", file.display())]
    Own {
        file: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("etcd would not take the certificate in {}, which is out of date: make a new one, and set it in [log] certificates", file.display())]
    Expired {
        file: PathBuf,
        #[source]
        source: rustls::Error,
    },
}

/// Reads the files. Blocks for that.
pub(crate) fn config(tls: &Tls) -> Result<Arc<ClientConfig>> {
    read(tls)
        .map_err(|source| Error::Engine { operation: "reading the certificates for etcd", source: Box::new(source) })
}

fn read(tls: &Tls) -> std::result::Result<Arc<ClientConfig>, Unusable> {
    let mut roots = RootCertStore::empty();
    let authority = |source| Unusable::Authority { file: tls.authority.clone(), source };
    for certificate in certificates(&tls.authority)? {
        roots.add(certificate).map_err(|error| authority(Some(error)))?;
    }
    if roots.is_empty() {
        return Err(authority(None));
    }
    let own = |source| Unusable::Own { file: tls.certificate.clone(), source };
    let key =
        PrivateKeyDer::from_pem_file(&tls.key).map_err(|source| Unusable::File { file: tls.key.clone(), source })?;
    let own_chain = certificates(&tls.certificate)?;
    refuse_expired(&tls.certificate, &own_chain, &roots)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(own)?
        .with_root_certificates(roots)
        .with_client_auth_cert(own_chain, key)
        .map_err(own)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> std::result::Result<Vec<CertificateDer<'static>>, Unusable> {
    let naming = |source| Unusable::File { file: file.to_owned(), source };
    CertificateDer::pem_file_iter(file).map_err(naming)?.collect::<std::result::Result<_, _>>().map_err(naming)
}

/// Said here, because etcd ends such a connection, and not always in words. Whether etcd trusts who signed the certificate only etcd knows.
fn refuse_expired(
    file: &Path,
    chain: &[CertificateDer<'_>],
    roots: &RootCertStore,
) -> std::result::Result<(), Unusable> {
    let own = |source| Unusable::Own { file: file.to_owned(), source };
    let Some((first, between)) = chain.split_first() else { return Ok(()) };
    let algorithms = ring::default_provider().signature_verification_algorithms.all;
    let certificate = ParsedCertificate::try_from(first).map_err(own)?;
    match verify_server_cert_signed_by_trust_anchor(&certificate, roots, between, UnixTime::now(), algorithms) {
        Err(source @ E::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. })) => {
            Err(Unusable::Expired { file: file.to_owned(), source })
        }
        _ => Ok(()),
    }
}
