// Transfer: one exchange over one libcurl handle, driven by whoever reads it. Channel: the handle
// with its open connections, kept for the next exchange.
#pragma once

#include "base/stop.hpp"
#include "http/detail/curl_library.hpp"
#include "http/message.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace cooper::http::detail {

class Channel {
public:
    static Result<std::unique_ptr<Channel>> open();
    explicit Channel(const CurlLibrary& curl) : curl(curl) {}
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;
    ~Channel();

    const CurlLibrary& curl;
    CURLM* multi = nullptr;
    CURL* easy = nullptr;
    std::string origin;  // "https://host:443" it last spoke to
};

// Takes back a channel that is free again.
using ReturnChannel = std::function<void(std::unique_ptr<Channel>)>;

class Transfer final : public ByteSource {
public:
    // Sends the request and waits for the head of the answer.
    static Result<std::unique_ptr<Transfer>> start(const Request& request, const std::string& proxy,
                                                   const std::string& user_agent, std::unique_ptr<Channel> channel,
                                                   ReturnChannel give_back, const Stop& stop);
    Transfer(const Transfer&) = delete;
    Transfer& operator=(const Transfer&) = delete;
    ~Transfer() override;

    [[nodiscard]] int status() const { return status_; }
    [[nodiscard]] const Headers& headers() const { return headers_; }
    Result<std::size_t> read(std::span<std::byte> buffer) override;
    // Reads a short rest away so that the connection can be used again.
    void drain();

private:
    Transfer(const Request& request, std::unique_ptr<Channel> channel, ReturnChannel give_back, const Stop& stop);
    Result<> configure(const Request& request, const std::string& proxy, const std::string& user_agent);
    Result<> configure_body(const Request& request);
    Result<> set_headers(const Request& request, const std::string& user_agent);
    template <class Value>
    Result<> set(CURLoption option, Value value);
    Result<> pump(const std::function<bool()>& ready);
    void collect();
    Result<> finished_well() const;

    static std::size_t on_header(char* data, std::size_t size, std::size_t count, void* self);
    static std::size_t on_body(char* data, std::size_t size, std::size_t count, void* self);
    static std::size_t on_upload(char* data, std::size_t size, std::size_t count, void* self);
    static int on_rewind(void* self, curl_off_t offset, int origin);
    void take_header_line(std::string_view line);

    std::unique_ptr<Channel> channel_;
    ReturnChannel give_back_;
    Stop stop_;
    std::string url_;  // printable
    std::chrono::seconds idle_timeout_;
    curl_slist* header_list_ = nullptr;
    bool attached_ = false;

    std::optional<Body> upload_;
    std::unique_ptr<ByteSource> upload_source_;
    std::optional<Error> upload_error_;

    int status_ = 0;
    Headers headers_;
    std::size_t header_bytes_ = 0;
    bool head_complete_ = false;

    std::vector<char> buffer_;
    std::size_t buffer_at_ = 0;
    bool paused_ = false;
    bool done_ = false;
    CURLcode result_ = CURLE_OK;
    std::uint64_t moved_bytes_ = 0;  // up and down: tells a living connection from a dead one
    char error_text_[CURL_ERROR_SIZE] = {};
    std::optional<std::stop_callback<std::function<void()>>> on_stop_;  // last: gone before the handles
};

}  // namespace cooper::http::detail
