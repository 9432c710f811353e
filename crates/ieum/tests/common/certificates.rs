//! Certificates as an operator makes them.

use std::path::{Path, PathBuf};

use ieum_drill::etcd::Certificates;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// An authority of the operator's own.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    folder: PathBuf,
}

impl Authority {
    /// One that puts what it signs into `folder`.
    pub(crate) fn new(folder: &Path) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        std::fs::create_dir(folder).unwrap();
        Self { issuer: Issuer::new(params, key), pem, folder: folder.to_owned() }
    }

    /// A certificate for loopback and this name, valid for years or until 2001.
    pub(crate) fn issue(&self, name: &str, expired: bool) -> Certificates {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), name.to_owned()]).unwrap();
        if expired {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let write = |kind: &str, text: &str| {
            let path = self.folder.join(format!("{name}-{expired}-{kind}.pem"));
            std::fs::write(&path, text).unwrap();
            path
        };
        Certificates {
            authority: write("authority", &self.pem),
            certificate: write("certificate", &certificate),
            key: write("key", &key.serialize_pem()),
        }
    }

    /// That of a node.
    pub(crate) fn node(&self, cell: u16, node: u32) -> Certificates {
        self.issue(&format!("node-{node}.cell-{cell}.ieum"), false)
    }
}

/// As a setting has them.
pub(crate) fn setting(certificates: &Certificates) -> String {
    let Certificates { authority, certificate, key } = certificates;
    format!("{{ authority = {authority:?}, certificate = {certificate:?}, key = {key:?} }}")
}
