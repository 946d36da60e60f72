#include "http/detail/transfer.hpp"

#include "base/text.hpp"
#include "http/url.hpp"

#include <algorithm>
#include <cstring>

namespace cooper::http::detail {
namespace {

// What is held for a reader that is slower than the network.
constexpr std::size_t kMaxBufferedBytes = 512 * 1024;
constexpr long kReceiveBufferBytes = 128 * 1024;
constexpr std::size_t kMaxHeaderBytes = 256 * 1024;
constexpr std::uint64_t kMaxDrainBytes = 64 * 1024;
constexpr int kPollMs = 1000;

Error curl_failure(const std::string& url, CURLcode result, const std::string& detail) {
    Error error = fail(Code::unavailable, Blame::world, "{}: {}", url, detail);
    switch (result) {
        case CURLE_COULDNT_RESOLVE_HOST:
            return error.with_hint("check the name of the host, and that this machine has a network and a name server");
        case CURLE_COULDNT_RESOLVE_PROXY:
            return error.with_hint("check the proxy in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY");
        case CURLE_COULDNT_CONNECT:
            return error.with_hint("check that the server runs and that nothing blocks the way to it");
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_ISSUER_ERROR:
            return fail(Code::failed_precondition, Blame::world, "{}: {}", url, detail)
                .with_hint("the server's certificate is not trusted: give its CA file in the configuration");
        case CURLE_SSL_CONNECT_ERROR:
            return error.with_hint("if the server speaks plain http, say so in the configuration");
        case CURLE_URL_MALFORMAT:
        case CURLE_UNSUPPORTED_PROTOCOL:
            return bad_input("{}: {}", url, detail);
        default:
            return error;
    }
}

}  // namespace

Result<std::unique_ptr<Channel>> Channel::open() {
    const CurlLibrary* curl = TRY(curl_library());
    auto channel = std::make_unique<Channel>(*curl);
    channel->multi = curl->multi_init();
    channel->easy = curl->easy_init();
    if (!channel->multi || !channel->easy) {
        return fail(Code::resource_exhausted, Blame::world, "libcurl gives no handle");
    }
    return channel;
}

Channel::~Channel() {
    if (easy) curl.easy_cleanup(easy);
    if (multi) curl.multi_cleanup(multi);
}

Transfer::Transfer(const Request& request, std::unique_ptr<Channel> channel, ReturnChannel give_back, const Stop& stop)
    : channel_(std::move(channel)),
      give_back_(std::move(give_back)),
      stop_(stop),
      url_(printable(request.url)),
      idle_timeout_(request.idle_timeout),
      upload_(request.body) {}

Transfer::~Transfer() {
    on_stop_.reset();
    if (attached_) channel_->curl.multi_remove_handle(channel_->multi, channel_->easy);
    channel_->curl.easy_reset(channel_->easy);
    if (header_list_) channel_->curl.slist_free_all(header_list_);
    give_back_(std::move(channel_));
}

template <class Value>
Result<> Transfer::set(CURLoption option, Value value) {
    const CURLcode code = channel_->curl.easy_setopt(channel_->easy, option, value);
    if (code != CURLE_OK) {
        return fail(Code::internal, Blame::cooper, "libcurl refuses option {}: {}", static_cast<int>(option),
                    channel_->curl.easy_strerror(code));
    }
    return {};
}

Result<> Transfer::set_headers(const Request& request, const std::string& user_agent) {
    std::vector<std::string> lines;
    for (const auto& [name, value] : request.headers.all()) {
        const bool bad = (name + value).find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos;
        if (bad || name.empty()) return bad_input("header {} contains a line break", quoted(name));
        // libcurl's way to send a header without a value.
        lines.push_back(value.empty() ? name + ";" : name + ": " + value);
    }
    if (!request.headers.find("User-Agent") && !user_agent.empty()) lines.push_back("User-Agent: " + user_agent);
    if (!request.headers.find("Accept")) lines.emplace_back("Accept: */*");
    lines.emplace_back("Expect:");  // no waiting for "100 Continue"
    if (request.body && !request.headers.find("Content-Type")) lines.emplace_back("Content-Type:");
    for (const std::string& line : lines) {
        curl_slist* longer = channel_->curl.slist_append(header_list_, line.c_str());
        if (!longer) return fail(Code::resource_exhausted, Blame::world, "out of memory");
        header_list_ = longer;
    }
    return set(CURLOPT_HTTPHEADER, header_list_);
}

Result<> Transfer::configure_body(const Request& request) {
    if (request.method == Method::head) TRY(set(CURLOPT_NOBODY, 1L));
    if (!upload_) {
        if (request.method == Method::post || request.method == Method::put || request.method == Method::patch) {
            TRY(set(CURLOPT_POST, 1L));
            TRY(set(CURLOPT_POSTFIELDS, ""));
            TRY(set(CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t{0}));
        }
        return {};
    }
    TRY(set(CURLOPT_UPLOAD, 1L));
    TRY(set(CURLOPT_READFUNCTION, &Transfer::on_upload));
    TRY(set(CURLOPT_READDATA, static_cast<void*>(this)));
    TRY(set(CURLOPT_SEEKFUNCTION, &Transfer::on_rewind));
    TRY(set(CURLOPT_SEEKDATA, static_cast<void*>(this)));
    if (upload_->size_bytes) TRY(set(CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(*upload_->size_bytes)));
    static_cast<void>(set(CURLOPT_UPLOAD_BUFFERSIZE, 256L * 1024));  // a wish, as below
    upload_source_ = TRY(upload_->open());
    return {};
}

Result<> Transfer::configure(const Request& request, const std::string& proxy, const std::string& user_agent) {
    TRY(set(CURLOPT_URL, request.url.c_str()));
    TRY(set(CURLOPT_PROTOCOLS_STR, "http,https"));
    TRY(set(CURLOPT_NOSIGNAL, 1L));
    TRY(set(CURLOPT_ERRORBUFFER, error_text_));
    TRY(set(CURLOPT_PROXY, proxy.c_str()));  // "" also keeps libcurl from reading the environment itself
    TRY(set(CURLOPT_NOPROXY, ""));
    TRY(set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L));
    TRY(set(CURLOPT_FOLLOWLOCATION, 0L));
    TRY(set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(request.connect_timeout.count())));
    // A handle that is used again keeps its buffer and refuses another size; the size is only a wish.
    static_cast<void>(set(CURLOPT_BUFFERSIZE, kReceiveBufferBytes));
    TRY(set(CURLOPT_TCP_KEEPALIVE, 1L));
    TRY(set(CURLOPT_HEADERFUNCTION, &Transfer::on_header));
    TRY(set(CURLOPT_HEADERDATA, static_cast<void*>(this)));
    TRY(set(CURLOPT_WRITEFUNCTION, &Transfer::on_body));
    TRY(set(CURLOPT_WRITEDATA, static_cast<void*>(this)));
    if (!request.unix_socket.empty()) TRY(set(CURLOPT_UNIX_SOCKET_PATH, request.unix_socket.c_str()));
    if (request.tls.verify == Verify::no) {
        TRY(set(CURLOPT_SSL_VERIFYPEER, 0L));
        TRY(set(CURLOPT_SSL_VERIFYHOST, 0L));
    }
    if (!request.tls.ca_file.empty()) TRY(set(CURLOPT_CAINFO, request.tls.ca_file.c_str()));
    if (!request.tls.client_cert.empty()) TRY(set(CURLOPT_SSLCERT, request.tls.client_cert.c_str()));
    if (!request.tls.client_key.empty()) TRY(set(CURLOPT_SSLKEY, request.tls.client_key.c_str()));
    TRY(configure_body(request));
    const std::string method(method_name(request.method));
    if (request.method != Method::head && request.method != Method::get) {
        TRY(set(CURLOPT_CUSTOMREQUEST, method.c_str()));
    }
    return set_headers(request, user_agent);
}

Result<std::unique_ptr<Transfer>> Transfer::start(const Request& request, const std::string& proxy,
                                                  const std::string& user_agent, std::unique_ptr<Channel> channel,
                                                  ReturnChannel give_back, const Stop& stop) {
    std::unique_ptr<Transfer> transfer(new Transfer(request, std::move(channel), std::move(give_back), stop));
    TRY(transfer->configure(request, proxy, user_agent));
    Channel& on = *transfer->channel_;
    if (on.curl.multi_add_handle(on.multi, on.easy) != CURLM_OK) {
        return fail(Code::internal, Blame::cooper, "libcurl does not take the request");
    }
    transfer->attached_ = true;
    transfer->on_stop_.emplace(stop, std::function<void()>([&on] { on.curl.multi_wakeup(on.multi); }));
    Transfer& self = *transfer;
    TRY(self.pump([&self] { return self.head_complete_; }));
    if (!self.head_complete_) {
        TRY(self.finished_well());
        return fail(Code::unavailable, Blame::world, "{}: the server closed the connection without an answer",
                    self.url_);
    }
    return transfer;
}

void Transfer::collect() {
    int left = 0;
    while (const CURLMsg* message = channel_->curl.multi_info_read(channel_->multi, &left)) {
        if (message->msg != CURLMSG_DONE) continue;
        done_ = true;
        result_ = message->data.result;
    }
}

Result<> Transfer::pump(const std::function<bool()>& ready) {
    using SteadyClock = std::chrono::steady_clock;
    auto moved_at = SteadyClock::now();
    std::uint64_t moved = moved_bytes_;
    while (!done_ && !ready()) {
        TRY(check_stop(stop_));
        int running = 0;
        const CURLMcode code = channel_->curl.multi_perform(channel_->multi, &running);
        if (code != CURLM_OK) {
            return fail(Code::internal, Blame::cooper, "{}: libcurl fails with {}", url_, static_cast<int>(code));
        }
        collect();
        if (upload_error_) return *upload_error_;
        if (done_ || ready()) break;
        if (moved != moved_bytes_) {
            moved = moved_bytes_;
            moved_at = SteadyClock::now();
        } else if (SteadyClock::now() - moved_at > idle_timeout_) {
            return fail(Code::unavailable, Blame::world, "{}: nothing came for {} seconds", url_,
                        idle_timeout_.count());
        }
        channel_->curl.multi_poll(channel_->multi, nullptr, 0, kPollMs, nullptr);
    }
    return {};
}

Result<> Transfer::finished_well() const {
    if (upload_error_) return *upload_error_;
    if (result_ == CURLE_OK) return {};
    if (header_bytes_ > kMaxHeaderBytes) {
        return fail(Code::resource_exhausted, Blame::world, "{}: the headers of the answer exceed {} bytes", url_,
                    kMaxHeaderBytes);
    }
    const std::string detail = error_text_[0] != '\0' ? error_text_ : channel_->curl.easy_strerror(result_);
    return curl_failure(url_, result_, detail);
}

Result<std::size_t> Transfer::read(std::span<std::byte> out) {
    if (out.empty()) return 0;
    const auto available = [this] { return buffer_.size() > buffer_at_; };
    if (!available()) {
        buffer_.clear();
        buffer_at_ = 0;
        if (paused_) {
            paused_ = false;
            channel_->curl.easy_pause(channel_->easy, CURLPAUSE_CONT);
        }
        TRY(pump(available));
        if (!available()) {
            TRY(finished_well());
            return 0;
        }
    }
    const std::size_t n = std::min(out.size(), buffer_.size() - buffer_at_);
    std::memcpy(out.data(), buffer_.data() + buffer_at_, n);
    buffer_at_ += n;
    return n;
}

void Transfer::drain() {
    std::byte scratch[8192];
    for (std::uint64_t total = 0; total < kMaxDrainBytes;) {
        const auto n = read(scratch);
        if (!n || *n == 0) return;
        total += *n;
    }
}

void Transfer::take_header_line(std::string_view line) {
    line = trim(line);
    if (line.starts_with("HTTP/")) {
        headers_ = Headers();
        const std::size_t space = line.find(' ');
        const auto code = space == std::string_view::npos ? std::nullopt : parse_int(line.substr(space + 1, 3));
        status_ = static_cast<int>(code.value_or(0));
        return;
    }
    if (line.empty()) {
        if (status_ >= 200) head_complete_ = true;  // 1xx are announcements
        return;
    }
    if (head_complete_) return;  // trailers
    const auto [name, value] = cut(line, ':');
    if (value) headers_.add(std::string(trim(name)), std::string(trim(*value)));
}

std::size_t Transfer::on_header(char* data, std::size_t size, std::size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    const std::size_t n = size * count;
    transfer.header_bytes_ += n;
    transfer.moved_bytes_ += n;
    if (transfer.header_bytes_ > kMaxHeaderBytes) return 0;
    transfer.take_header_line(std::string_view(data, n));
    return n;
}

std::size_t Transfer::on_body(char* data, std::size_t size, std::size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    if (transfer.buffer_.size() - transfer.buffer_at_ >= kMaxBufferedBytes) {
        transfer.paused_ = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    const std::size_t n = size * count;
    transfer.buffer_.insert(transfer.buffer_.end(), data, data + n);
    transfer.moved_bytes_ += n;
    return n;
}

std::size_t Transfer::on_upload(char* data, std::size_t size, std::size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    const auto n = transfer.upload_source_->read(std::as_writable_bytes(std::span(data, size * count)));
    if (!n) {
        transfer.upload_error_ = n.error();
        return CURL_READFUNC_ABORT;
    }
    transfer.moved_bytes_ += *n;
    return *n;
}

int Transfer::on_rewind(void* self, curl_off_t offset, int origin) {
    auto& transfer = *static_cast<Transfer*>(self);
    if (offset != 0 || origin != SEEK_SET) return CURL_SEEKFUNC_CANTSEEK;
    auto again = transfer.upload_->open();
    if (!again) {
        transfer.upload_error_ = again.error();
        return CURL_SEEKFUNC_FAIL;
    }
    transfer.upload_source_ = std::move(*again);
    return CURL_SEEKFUNC_OK;
}

}  // namespace cooper::http::detail
