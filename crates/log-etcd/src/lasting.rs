//! Whether what keeps a member from answering can pass by itself. A member that is down comes back; a certificate that is not trusted stays so,
//! and what is no etcd does not become one.

use std::error::Error;
use std::io;

use tokio_rustls::rustls::{self, AlertDescription, CertificateError};
use tonic::{Code, Status};

/// Whether it is in vain to wait. What is not known to last may pass.
pub(crate) fn lasts(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if lasts_itself(error) {
            return true;
        }
        next = error.source();
    }
    false
}

fn lasts_itself(error: &(dyn Error + 'static)) -> bool {
    // What an IO error was made of is not its source.
    let wrapped = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref()?.downcast_ref());
    if let Some(error) = error.downcast_ref().or(wrapped) {
        return tls_lasts(error);
    }
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        // This side found that what came is not HTTP/2. A member that stops says so itself.
        return error.is_go_away() && error.is_library();
    }
    // Without the call, or for somebody who has shown another name than it wants. What is passing has other codes, in etcd too.
    error.downcast_ref::<Status>().is_some_and(|status| {
        let code = status.code();
        matches!(code, Code::Unimplemented | Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied)
    })
}

fn tls_lasts(error: &rustls::Error) -> bool {
    use rustls::Error as E;
    match error {
        // A machine that has just come up may not have set its clock yet.
        E::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => false,
        E::AlertReceived(alert) => !matches!(
            alert,
            AlertDescription::CloseNotify | AlertDescription::UserCanceled | AlertDescription::InternalError
        ),
        E::InvalidCertificate(_)
        | E::InvalidMessage(_)
        | E::InappropriateMessage { .. }
        | E::InappropriateHandshakeMessage { .. }
        | E::PeerIncompatible(_)
        | E::PeerMisbehaved(_)
        | E::NoCertificatesPresented
        | E::NoApplicationProtocol => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::ConnectError;

    fn tls(error: rustls::Error) -> ConnectError {
        ConnectError::Tls(io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn what_a_certificate_or_another_server_gives_lasts() {
        assert!(lasts(&tls(CertificateError::UnknownIssuer.into())));
        assert!(lasts(&tls(CertificateError::Expired.into())));
        assert!(lasts(&tls(rustls::Error::AlertReceived(AlertDescription::BadCertificate))));
        assert!(lasts(&tls(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType))));
        assert!(lasts(&Status::unimplemented("no such call")));
        assert!(lasts(&Status::invalid_argument("etcdserver: user name is empty")));
    }

    #[test]
    fn what_a_machine_that_comes_up_gives_passes() {
        assert!(!lasts(&ConnectError::Slow));
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(!lasts(&ConnectError::Tcp(refused)));
        assert!(!lasts(&ConnectError::Tcp(io::Error::other("failed to lookup address information"))));
        assert!(!lasts(&ConnectError::Tls(io::Error::from(io::ErrorKind::UnexpectedEof))));
        assert!(!lasts(&tls(CertificateError::NotValidYet.into())));
        assert!(!lasts(&tls(rustls::Error::AlertReceived(AlertDescription::InternalError))));
        assert!(!lasts(&Status::unavailable("etcdserver: no leader")));
        assert!(!lasts(&Status::unknown("etcdserver: request timed out")));
    }
}
