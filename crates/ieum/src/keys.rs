//! What a node shows that it is: its certificate to clients, and its signature under access tokens.

use std::io;
use std::path::Path;
use std::sync::Arc;

use ieum_gateway::SigningKeys;
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::config::Config;
use crate::serve::Error;

/// What clients' connections are accepted with, if certificates are given.
pub(crate) fn tls(config: &Config) -> Result<Option<TlsAcceptor>, Error> {
    let (Some(certificate), Some(key)) = (&config.listen.certificate, &config.listen.key) else { return Ok(None) };
    let pem = |path: &Path, what: String| Error::Pem { path: path.to_owned(), what };
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|e| pem(certificate, e.to_string()))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| pem(key, e.to_string()))?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| pem(certificate, e.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|e| pem(certificate, e.to_string()))?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// The key that this node signs access tokens with, made at the first start.
pub(crate) fn signing_keys(data: &Path) -> Result<SigningKeys, Error> {
    let path = data.join("signing.key");
    let seed = match std::fs::read(&path) {
        Ok(seed) => seed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_seed(&path)?,
        Err(source) => return Err(Error::File { operation: "reading", path, source }),
    };
    let keys = seed.as_slice().try_into().ok().and_then(SigningKeys::from_seed);
    keys.ok_or_else(|| Error::Pem {
        path,
        what: "not a signing key; remove it, and clients get new access tokens by themselves".to_owned(),
    })
}

fn make_seed(path: &Path) -> Result<Vec<u8>, Error> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut seed = vec![0; 32];
    let random = SystemRandom::new().fill(&mut seed).map_err(|_| io::Error::other("no randomness"));
    let partial = path.with_extension("partial");
    let write = || {
        random?;
        // A file left half written by a crash holds nothing yet.
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(&seed)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    };
    write().map_err(|source| Error::File { operation: "writing", path: path.to_owned(), source })?;
    Ok(seed)
}
