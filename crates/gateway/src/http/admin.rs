//! Pages about the gateway itself: liveness, readiness, metrics, a greeting.

use std::{fmt::Write as _, sync::Arc};

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::{
    body::{Body, Open},
    door::DoorSettings,
    respond::{self, Asked},
};
use crate::{
    Gateway, metrics,
    record::{Outcome, Recorder},
};

/// Which page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    Greeting,
    Healthz,
    Readyz,
    Metrics,
}

impl Page {
    pub(crate) fn at(path: &str) -> Option<Self> {
        match path {
            "/" => Some(Self::Greeting),
            "/healthz" => Some(Self::Healthz),
            "/readyz" => Some(Self::Readyz),
            "/metrics" => Some(Self::Metrics),
            _ => None,
        }
    }

    pub(crate) async fn answer(
        self,
        gateway: Arc<Gateway>,
        recorder: Arc<Recorder>,
        settings: Arc<DoorSettings>,
        request: &Request<Incoming>,
        mut open: Open,
    ) -> Response<Body> {
        open.record.outcome = Outcome::Hit;
        let asked = Asked {
            method: request.method(),
            headers: request.headers(),
        };
        let (status, media, text) = match self {
            Self::Greeting => (StatusCode::OK, TEXT, greeting(request, &settings)),
            Self::Healthz => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            Self::Readyz => {
                let readiness = gateway.readiness().await;
                let status = if readiness.ready {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                (
                    status,
                    "application/json",
                    format!("{}\n", readiness.json()),
                )
            }
            Self::Metrics => (
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                metrics_page(&gateway, &recorder, settings.certificate_end),
            ),
        };
        respond::page(status, media, text, &asked, open)
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

/// What a person sees who opens the address in a browser.
fn greeting(request: &Request<Incoming>, settings: &DoorSettings) -> String {
    // Over HTTP/2 it stands in the place of the Host header, with the port.
    let host = request.uri().authority().map(ToString::to_string);
    let host = host.or_else(|| {
        request
            .headers()
            .get("host")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    });
    let host = host.filter(|host| {
        host.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
    });
    let mut text = format!(
        "modgate {}, a Go module gateway.\n",
        env!("CARGO_PKG_VERSION")
    );
    let _ = write!(
        text,
        "\n    go env -w GOPROXY={}\n\n",
        settings.public_url.as_deref().map_or_else(
            || {
                let scheme = if settings.tls { "https" } else { "http" };
                format!("{scheme}://{}", host.as_deref().unwrap_or("127.0.0.1:3000"))
            },
            str::to_owned
        )
    );
    text += "/healthz  alive\n/readyz   ready to serve, with reasons\n/metrics  for Prometheus\n";
    text
}

fn metrics_page(gateway: &Gateway, recorder: &Recorder, certificate_end: Option<i64>) -> String {
    recorder.metrics.page(|page| {
        gateway.samples(page);
        let dropped = recorder.log.dropped();
        #[expect(clippy::cast_precision_loss, reason = "a count of lines")]
        let dropped = dropped as f64;
        metrics::family(
            page,
            "modgate_log_lines_dropped_total",
            "Lines of the log not written because the output was too slow",
            "counter",
            &[(String::new(), dropped)],
        );
        if let Some(end) = certificate_end {
            #[expect(clippy::cast_precision_loss, reason = "a time in seconds")]
            let end = end as f64;
            metrics::family(
                page,
                "modgate_tls_certificate_end_seconds",
                "When the certificate of the listener ends, in seconds since 1970",
                "gauge",
                &[(String::new(), end)],
            );
        }
        let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
        metrics::family(
            page,
            "modgate_build_info",
            "The running version",
            "gauge",
            &[(version, 1.0)],
        );
        metrics::process(page);
    })
}
