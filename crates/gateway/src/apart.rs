//! Figures at an address of their own, for whoever watches over the node: the one that clients reach need not show them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower_service::Service as _;

use crate::Gateway;
use crate::cell::Cell;
use crate::http;
use crate::patient::Patient;
use crate::server::accepted;

/// How many may ask at once; more are turned away.
const AT_ONCE: usize = 64;

/// Serves `/metrics`, `/healthz` and `/readyz` from `listener`, and nothing else, until [`Gateway::stop`].
pub async fn serve<C: Cell>(gateway: Arc<Gateway<C>>, listener: TcpListener) {
    let router = http::probes(Arc::clone(&gateway));
    let mut stopping = gateway.stopping.subscribe();
    let (turns, patience) = (Arc::new(Semaphore::new(AT_ONCE)), gateway.options.patience);
    loop {
        let (stream, _) = tokio::select! {
            accepted = accepted(&listener) => accepted,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        let Ok(turn) = Arc::clone(&turns).try_acquire_owned() else { continue };
        let router = router.clone();
        tokio::spawn(async move {
            answer(router, stream, patience).await;
            drop(turn);
        });
    }
}

/// One request of one connection.
async fn answer(router: Router, stream: TcpStream, patience: Duration) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut router = router.clone();
        async move { router.call(request.map(Body::new)).await }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .keep_alive(false)
        .half_close(true)
        .serve_connection(TokioIo::new(Patient::new(stream, patience)), service);
    // What went wrong is the asker's to know.
    let _ = connection.await;
}
