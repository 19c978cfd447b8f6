//! A forward proxy under which every host name is the forge: `CONNECT name:443` reaches its https server, and
//! `GET http://name/` is answered as plain http.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{PROXY_AUTHENTICATE, PROXY_AUTHORIZATION};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::http::{Body, answer, basic, text};
use crate::site::Site;

/// What a proxy knows.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) site: Arc<Site>,
    /// The https server.
    pub(crate) https: SocketAddr,
    /// `user:secret` it wants.
    pub(crate) login: Option<String>,
}

/// Serves a connection to its end.
pub(crate) async fn serve(stream: TcpStream, proxy: Arc<Proxy>) {
    let service = service_fn(move |request| {
        let proxy = Arc::clone(&proxy);
        async move { Ok::<_, Infallible>(handle(&proxy, request).await) }
    });
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

async fn handle(proxy: &Proxy, request: Request<Incoming>) -> Response<Body> {
    let given = request.headers().get(PROXY_AUTHORIZATION);
    let given = given.and_then(|value| basic(value.to_str().ok()?));
    let whose = given.as_deref().unwrap_or("nobody");
    let (method, uri) = (request.method().clone(), request.uri().clone());
    proxy
        .site
        .record(format!("proxy {method} {uri} by {whose}"));
    if proxy.login.is_some() && proxy.login != given {
        let mut answer = text(StatusCode::PROXY_AUTHENTICATION_REQUIRED, "who are you?\n");
        let basic = "Basic realm=\"proxy\"".parse().expect("plain");
        answer.headers_mut().insert(PROXY_AUTHENTICATE, basic);
        return answer;
    }
    if method != Method::CONNECT {
        return answer("http", &proxy.site, request).await;
    }
    let Ok(mut server) = TcpStream::connect(proxy.https).await else {
        return text(StatusCode::BAD_GATEWAY, "the forge is closed\n");
    };
    // It lives as long as its two ends, which end with their owners.
    tokio::spawn(async move {
        if let Ok(client) = hyper::upgrade::on(request).await {
            let mut client = TokioIo::new(client);
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    });
    text(StatusCode::OK, "")
}
