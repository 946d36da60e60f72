// MessageStream: a call that carries messages in both directions, as bytes: whoever uses it knows their type.
// RawCall is its client's side. A service whose methods are such calls is made by make_raw_service.
//
// One thread reads and one writes; they may be two. Everything blocks.
#pragma once

#include "base/result.hpp"
#include "base/stop.hpp"
#include "rpc/grpc_types.hpp"

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cooper::rpc {

// Keys in lower case; a key may occur several times.
using Metadata = std::vector<std::pair<std::string, std::string>>;

class MessageStream {
public:
    virtual ~MessageStream() = default;
    // false: the peer sends no more. An error when the call was cancelled. At most kMaxMessageBytes.
    virtual Result<bool> read(std::string& message) = 0;
    virtual Result<> write(std::string_view message) = 0;
    // The same, but the message may wait for the next write(), which follows at once: what is written ahead shares
    // system calls and wake-ups with others. Up to 64 KiB wait.
    virtual Result<> write_ahead(std::string_view message) { return write(message); }
    // Nothing will be written any more; any number of times. The side that serves ends with its handler.
    virtual Result<> close_write() = 0;
    // What blocks returns soon, now and later. Any thread.
    virtual void cancel() = 0;
};

// A question with one answer.
struct Question {
    std::string method;
    std::string request;  // as bytes
    Metadata metadata;
    std::chrono::milliseconds timeout{};  // 0 = none; deadline_exceeded
};

// The client's side, of streams in one direction as well: the wire makes no difference.
class RawCall final : public MessageStream {
public:
    // method: "/moby.filesync.v1.FileSync/DiffCopy". A stop cancels the call. Metadata that HTTP/2 cannot carry makes a
    // call of which everything fails; add_encoded makes values fit.
    static std::unique_ptr<RawCall> start(std::shared_ptr<grpc::Channel> channel, const std::string& method,
                                          const Metadata& metadata, Stop stop);
    ~RawCall() override;

    // The end of the call that is not OK is an error: Code and details as the peer gave them.
    Result<bool> read(std::string& message) override;
    Result<> write(std::string_view message) override;
    Result<> write_ahead(std::string_view message) override;
    Result<> close_write() override;
    // Drops what is left to read (a peer that sends on and on is cancelled) and says how the call ended. For the thread
    // that reads.
    Result<> finish();
    void cancel() override;

private:
    friend Result<std::string> ask(const std::shared_ptr<grpc::Channel>& channel, const Question& question, Stop stop);
    RawCall();
    void begin(const Metadata& metadata);
    Result<> write_with(std::string_view message, bool ahead);
    struct Call;
    std::unique_ptr<Call> call_;
};

[[nodiscard]] Result<std::string> ask(const std::shared_ptr<grpc::Channel>& channel, const Question& question,
                                      Stop stop);

struct RawMethod {
    std::string path;  // "/package.Service/Method"
    // Its error becomes the status of the call.
    std::function<Result<>(MessageStream& stream, const Metadata& metadata)> serve;
};
[[nodiscard]] std::unique_ptr<grpc::Service> make_raw_service(std::vector<RawMethod> methods);

// Of the client's, as it came.
[[nodiscard]] Metadata metadata_of(const grpc::ServerContext& context);
// Adds values under a key as BuildKit's file transfers do: when one has bytes that a header cannot carry, all are
// escaped as in a URL's query, and "KEY-encoded: 1" is added.
void add_encoded(Metadata& metadata, const std::string& key, std::vector<std::string> values);
// The values of a key, unescaped.
[[nodiscard]] std::vector<std::string> decoded_values(const Metadata& metadata, std::string_view key);
// The first value of a key; empty when there is none.
[[nodiscard]] std::string_view find_value(const Metadata& metadata, std::string_view key);

}  // namespace cooper::rpc
