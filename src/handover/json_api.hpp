// An engine's API of JSON over HTTP, on a unix socket or a TCP port. Answers are hostile: bounded, and errors become
// one line. Any thread.
#pragma once

#include "http/client.hpp"

#include <optional>
#include <string>
#include <string_view>

namespace cooper::handover {

class JsonApi {
public:
    // prefix: of all paths, "/v1.24". address: "unix://SOCKET" or "tcp://HOST:PORT". who: "docker", for messages.
    static Result<JsonApi> at(http::Client& client, const std::string& address, std::string prefix, std::string who);

    struct Answer {
        int status = 0;
        std::string text;
    };
    [[nodiscard]] Result<Answer> ask(http::Method method, const std::string& path, http::Headers headers,
                                     std::optional<http::Body> body, const Stop& stop);
    [[nodiscard]] Result<Answer> post(const std::string& path, const Stop& stop);
    // What is there; not_found.
    [[nodiscard]] Result<std::string> get(const std::string& path, const Stop& stop);

private:
    JsonApi(http::Client& client, std::string url, std::string socket, std::string who)
        : client_(&client), url_(std::move(url)), socket_(std::move(socket)), who_(std::move(who)) {}

    http::Client* client_;
    std::string url_;
    std::string socket_;
    std::string who_;
};

// What it says went wrong.
[[nodiscard]] std::string message_of(const std::string& text);
// An answer of one JSON document a line, in one of which is told what goes wrong after the first: aborted.
[[nodiscard]] Result<> check_lines(const std::string& text);
// A name as a part of a path or of a query.
[[nodiscard]] std::string escaped(std::string_view text);

}  // namespace cooper::handover
