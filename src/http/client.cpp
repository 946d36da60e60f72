#include "http/client.hpp"

#include "base/guarded.hpp"
#include "base/text.hpp"
#include "http/detail/transfer.hpp"
#include "http/url.hpp"

#include <algorithm>

namespace cooper::http {
namespace {

constexpr int kMaxRedirects = 10;
constexpr std::size_t kMaxIdleChannels = 16;

bool is_redirect(int status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

// The next hop; url_before is what answered with Location.
Result<Request> next_hop(Request request, const Url& url_before, int status, std::string_view location) {
    const Url target =
        TRY_CONTEXT(resolve(url_before, location), "redirect from {}", printable(url_before.to_string()));
    if (!target.same_origin(url_before)) {
        request.headers.remove("Authorization");
        request.headers.remove("Cookie");
        request.unix_socket.clear();
    }
    const bool keeps_method =
        status == 307 || status == 308 || request.method == Method::get || request.method == Method::head;
    if (!keeps_method) {
        request.method = Method::get;
        request.body.reset();
        request.headers.remove("Content-Type");
        request.headers.remove("Content-Range");
    }
    request.url = target.to_string();
    return request;
}

}  // namespace

struct Client::Pool {
    Guarded<std::vector<std::unique_ptr<detail::Channel>>> idle;

    // The one that last spoke to this origin may still have its connection.
    Result<std::unique_ptr<detail::Channel>> take(const std::string& origin) {
        {
            auto list = idle.lock();
            auto found = std::ranges::find_if(*list, [&](const auto& channel) { return channel->origin == origin; });
            if (found == list->end() && list->size() >= kMaxIdleChannels) found = list->begin();
            if (found != list->end()) {
                auto channel = std::move(*found);
                list->erase(found);
                channel->origin = origin;
                return channel;
            }
        }
        auto channel = TRY(detail::Channel::open());
        channel->origin = origin;
        return channel;
    }
    void put(std::unique_ptr<detail::Channel> channel) {
        auto list = idle.lock();
        if (list->size() < kMaxIdleChannels) list->push_back(std::move(channel));
    }
};

Client::Client(ClientOptions options) : options_(std::move(options)), pool_(std::make_unique<Pool>()) {}
Client::~Client() = default;

Result<Response> Client::send_once(const Request& request, const Stop& stop) {
    TRY(check_stop(stop));
    const Url url = TRY(Url::parse(request.url));
    if (options_.offline) {
        return fail(Code::failed_precondition, Blame::user, "offline: {} is wanted", printable(request.url))
            .with_hint("build once without --offline, so that it is here");
    }
    const std::string origin = url.scheme + "://" + url.authority() + request.unix_socket;
    auto channel = TRY(pool_->take(origin));
    const std::string proxy = request.unix_socket.empty() ? options_.proxies.proxy_for(request.url) : std::string();
    Pool& pool = *pool_;
    auto transfer = TRY(detail::Transfer::start(
        request, proxy, options_.user_agent, std::move(channel),
        [&pool](std::unique_ptr<detail::Channel> free) { pool.put(std::move(free)); }, stop));
    Response response;
    response.status = transfer->status();
    response.headers = transfer->headers();
    response.url = request.url;
    if (request.method == Method::head) transfer->drain();
    response.body = std::move(transfer);
    return response;
}

Result<Response> Client::send(const Request& first, const Stop& stop) {
    Request request = first;
    for (int hop = 0; hop <= kMaxRedirects; ++hop) {
        Response response = TRY(send_once(request, stop));
        const auto location = response.headers.find("Location");
        if (request.redirects == Redirects::refuse || !is_redirect(response.status) || !location) return response;
        static_cast<detail::Transfer&>(*response.body).drain();
        response.body.reset();
        const Url before = TRY(Url::parse(request.url));
        request = TRY(next_hop(std::move(request), before, response.status, *location));
    }
    return fail(Code::failed_precondition, Blame::world, "{}: more than {} redirects", printable(first.url),
                kMaxRedirects);
}

Result<Response> Client::send_with_retry(const Request& request, const RetryPolicy& policy, const Stop& stop) {
    for (int attempt = 1;; ++attempt) {
        Result<Response> result = send(request, stop);
        const bool worth_it = result ? is_retryable_status(result->status) : is_retryable(result.error());
        if (!worth_it || attempt >= policy.attempts) return result;
        const auto delay = retry_delay(policy, attempt, result ? &result->headers : nullptr);
        if (result) static_cast<detail::Transfer&>(*result->body).drain();
        result = cancelled();  // lets the connection go before the wait
        TRY(wait_for(delay, stop));
    }
}

bool is_retryable_status(int status) {
    return status == 408 || status == 425 || status == 429 || status == 500 || status == 502 || status == 503 ||
           status == 504;
}

bool is_retryable(const Error& error) { return error.code() == Code::unavailable; }

std::chrono::milliseconds retry_delay(const RetryPolicy& policy, int attempt, const Headers* answer) {
    if (answer) {
        // Seconds only; the date form is answered with our own schedule.
        const auto seconds = parse_int(answer->find("Retry-After").value_or(""));
        if (seconds && *seconds >= 0) {
            const std::int64_t most = policy.max_delay.count() / 1000;
            return std::min(policy.max_delay, std::chrono::milliseconds(std::min(*seconds, most) * 1000));
        }
    }
    const int doublings = std::clamp(attempt - 1, 0, 16);
    return std::min(policy.max_delay, policy.first_delay * (1 << doublings));
}

Result<> wait_for(std::chrono::milliseconds delay, const Stop& stop) {
    Guarded<bool> never;
    never.lock().wait_for(stop, delay, [] { return false; });
    return check_stop(stop);
}

}  // namespace cooper::http
