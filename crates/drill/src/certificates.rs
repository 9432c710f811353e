//! Certificates as an operator makes them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
pub use rcgen::{CertificateParams, date_time_ymd};

use crate::error::{Error, Naming as _};
use crate::etcd::Certificates;

/// An authority of the operator's own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    folder: PathBuf,
    issued: AtomicU32,
}

/// Names what failed of making a certificate.
fn made<T>(result: Result<T, rcgen::Error>) -> Result<T, Error> {
    result.map_err(|error| Error::other("making a certificate", error.to_string()))
}

impl Authority {
    /// One that puts what it signs into `folder`, which it makes if it is not there.
    pub fn new(folder: &Path) -> Result<Self, Error> {
        let mut params = made(CertificateParams::new(Vec::new()))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = made(KeyPair::generate())?;
        let pem = made(params.self_signed(&key))?.pem();
        std::fs::create_dir_all(folder).naming(|| format!("making {}", folder.display()))?;
        Ok(Self { issuer: Issuer::new(params, key), pem, folder: folder.to_owned(), issued: AtomicU32::new(0) })
    }

    /// Its own certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for loopback and these names, for servers and clients and in date unless `change` makes it another. In files of its own.
    pub fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Result<Certificates, Error> {
        let names: Vec<String> = ["127.0.0.1"].iter().chain(names).map(|name| (*name).to_owned()).collect();
        let mut params = made(CertificateParams::new(names))?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = made(KeyPair::generate())?;
        let certificate = made(params.signed_by(&key, &self.issuer))?.pem();
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let write = |kind: &str, text: &str| {
            let path = self.folder.join(format!("{number}-{kind}.pem"));
            std::fs::write(&path, text).naming(|| format!("writing {}", path.display()))?;
            Ok::<_, Error>(path)
        };
        Ok(Certificates {
            authority: write("authority", &self.pem)?,
            certificate: write("certificate", &certificate)?,
            key: write("key", &key.serialize_pem())?,
        })
    }

    /// That of a node.
    pub fn node(&self, cell: u16, node: u32) -> Result<Certificates, Error> {
        self.issue(&[&node_name(cell, node)], |_| ())
    }
}

/// What the certificate of a node names it.
pub fn node_name(cell: u16, node: u32) -> String {
    format!("node-{node}.cell-{cell}.ieum")
}

/// Has a certificate be out of date.
pub fn expired(params: &mut CertificateParams) {
    params.not_after = date_time_ymd(2001, 1, 1);
}
