//! What is said to a node that asks.

use std::sync::Arc;

use futures_util::StreamExt as _;
use tonic::server::ServerStreamingService;
use tonic::{Request, Response};

use super::feed::Feed;
use super::messages::{Signal, SignalsAsked};
use crate::server::{Answer, Answers, Offer};

/// The call `Signals`.
pub(crate) struct Tell(pub(crate) Arc<Offer>);

impl ServerStreamingService<SignalsAsked> for Tell {
    type Response = Signal;
    type ResponseStream = Answers<Signal>;
    type Future = Answer<Signal>;

    fn call(&mut self, request: Request<SignalsAsked>) -> Self::Future {
        let offer = Arc::clone(&self.0);
        Box::pin(async move {
            let hello = request.get_ref().hello;
            offer.check(hello, &request)?;
            let node = hello.map(|hello| hello.node).unwrap_or_default();
            let (signals, own) = (offer.shelf.signals()?, offer.report.borrow().node);
            let said = Feed::new(&signals, own, node).stream().map(|said| Ok(Signal::from(said)));
            Ok(Response::new(Box::pin(said) as Answers<Signal>))
        })
    }
}
