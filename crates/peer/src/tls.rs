//! Certificates between nodes. Each node shows one of the cell's own authority that names it, `node-3.cell-1.ieum`, and is believed as that
//! node alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ieum_core::ids::NodeId;
use ieum_planted::Bug;
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};

/// Where a node's certificates lie, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Of the authority that signed those of all nodes.
    pub authority: PathBuf,
    /// The node's own, with what lies between it and the authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Certificates that the other nodes would not take, or that cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A file cannot be read, or holds no PEM.
    #[error("reading {}: {source}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// Nothing is trusted by it.
    #[error("{} holds no certificate of an authority", file.display())]
    Authority {
        /// Which.
        file: PathBuf,
    },
    /// The others would refuse it.
    #[error("the other nodes would refuse the certificate in {}: {source}. Make a new one, signed by the authority in {}", file.display(), authority.display())]
    Own {
        /// Which.
        file: PathBuf,
        /// Whose signature it needs.
        authority: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// It is another node's, or no node's.
    #[error("the certificate in {} {found}, and this is {}: correct [node] number or cell, or make one with `subjectAltName = DNS:{}`", file.display(), Who { cell: *cell, node: *node }, Who { cell: *cell, node: *node }.name())]
    Name {
        /// Which.
        file: PathBuf,
        /// Whom it names.
        found: Named,
        /// The cell that it has to be of.
        cell: u16,
        /// The node that it has to be of.
        node: NodeId,
    },
}

/// A node of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) cell: u16,
    pub(crate) node: NodeId,
}

impl Who {
    /// What its certificate has to name.
    fn name(self) -> String {
        format!("node-{}.cell-{}.ieum", self.node, self.cell)
    }

    fn parse(name: &str) -> Option<Self> {
        let (node, cell) = name.strip_prefix("node-")?.strip_suffix(".ieum")?.split_once(".cell-")?;
        let who = Self { cell: cell.parse().ok()?, node: node.parse().ok()? };
        // One spelling.
        (who.name() == name).then_some(who)
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "node {} of cell {}", self.node, self.cell)
    }
}

/// Whom a certificate names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// No node.
    Nobody,
    /// Several.
    Several,
    /// One.
    One {
        /// Its cell.
        cell: u16,
        /// Its number.
        node: NodeId,
    },
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Nobody => f.write_str("names no node"),
            Self::Several => f.write_str("names several nodes"),
            Self::One { cell, node } => write!(f, "names {}", Who { cell, node }),
        }
    }
}

impl Named {
    fn of(certificate: &CertificateDer<'_>) -> Self {
        let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Self::Nobody };
        let mut named = Self::Nobody;
        for Who { cell, node } in certificate.valid_dns_names().filter_map(Who::parse) {
            named = match named {
                Self::Nobody => Self::One { cell, node },
                Self::One { .. } | Self::Several => return Self::Several,
            };
        }
        named
    }
}

/// How a node proves who it is, and what it asks of the others.
#[derive(Debug, Clone)]
pub struct Tls {
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
    cell: u16,
}

impl Tls {
    /// Reads the files of node `node` of `cell`, and looks at them as the other nodes will. Blocks.
    ///
    /// # Errors
    /// [`Unusable`] says what is wrong and what to do.
    pub fn read(files: &Files, cell: u16, node: NodeId) -> Result<Self, Unusable> {
        let roots = Arc::new(authority(&files.authority)?);
        let (chain, key) = (certificates(&files.certificate)?, &files.key);
        let key = PrivateKeyDer::from_pem_file(key).map_err(|source| Unusable::File { file: key.clone(), source })?;
        let own =
            |source| Unusable::Own { file: files.certificate.clone(), authority: files.authority.clone(), source };
        let asks = Self::asks(&roots).map_err(|error| own(rustls::Error::General(error.to_string())))?;
        check(&chain, &roots, asks.as_ref()).map_err(own)?;
        let found = chain.first().map_or(Named::Nobody, Named::of);
        if found != (Named::One { cell, node }) {
            return Err(Unusable::Name { file: files.certificate.clone(), found, cell, node });
        }
        let provider = Arc::new(ring::default_provider());
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(own)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(own)?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(own)?
            .with_client_cert_verifier(asks)
            .with_single_cert(chain, key)
            .map_err(own)?;
        (client.alpn_protocols, server.alpn_protocols) = (vec![b"h2".to_vec()], vec![b"h2".to_vec()]);
        Ok(Self { client: Arc::new(client), server: Arc::new(server), cell })
    }

    /// How callers are looked at.
    fn asks(roots: &Arc<RootCertStore>) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::new(ring::default_provider())).build()
    }

    /// Which node of the cell the other side of a connection is, by the certificates that it has shown.
    pub(crate) fn named(&self, shown: Option<&[CertificateDer<'_>]>) -> Result<NodeId, String> {
        match shown.and_then(<[_]>::first).map_or(Named::Nobody, Named::of) {
            Named::One { cell, node } if cell == self.cell => Ok(node),
            other => {
                let wanted = Who { cell: self.cell, node: 0 }.name().replace('0', "N");
                Err(format!("its certificate {other}: a node of cell {} shows one for {wanted}", self.cell))
            }
        }
    }
}

/// Whether the other nodes, in either part, take the certificate.
fn check(
    chain: &[CertificateDer<'_>],
    roots: &RootCertStore,
    asks: &dyn ClientCertVerifier,
) -> Result<(), rustls::Error> {
    let Some((own, between)) = chain.split_first() else { return Err(rustls::Error::NoCertificatesPresented) };
    let now = UnixTime::now();
    let known = ring::default_provider().signature_verification_algorithms;
    verify_server_cert_signed_by_trust_anchor(&ParsedCertificate::try_from(own)?, roots, between, now, known.all)?;
    asks.verify_client_cert(own, between, now).map(drop)
}

/// Whether the node that says so is the one that the certificate names.
pub(crate) fn is(says: NodeId, named: Option<NodeId>) -> Result<(), String> {
    match named {
        Some(named) if named != says && !Bug::CertificateOfAnyNode.planted() => Err(format!(
            "its certificate names node {named}, and it says that it is node {says}: correct its [node] number or [peers] certificates"
        )),
        _ => Ok(()),
    }
}

fn authority(file: &Path) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|_| Unusable::Authority { file: file.to_owned() })?;
    }
    if roots.is_empty() { Err(Unusable::Authority { file: file.to_owned() }) } else { Ok(roots) }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let naming = |source| Unusable::File { file: file.to_owned(), source };
    CertificateDer::pem_file_iter(file).map_err(naming)?.collect::<Result<_, _>>().map_err(naming)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling() {
        assert_eq!(Who::parse("node-3.cell-1.ieum"), Some(Who { cell: 1, node: 3 }));
        for other in ["node-03.cell-1.ieum", "node-3.cell-1.example", "node-+3.cell-1.ieum", "*.cell-1.ieum", "node-3"]
        {
            assert_eq!(Who::parse(other), None, "{other}");
        }
    }
}
