#include "http/client.hpp"
#include "http/fake_server.hpp"
#include "http/proxy.hpp"
#include "http/url.hpp"

#include <atomic>
#include <gtest/gtest.h>
#include <map>
#include <thread>
#include <unistd.h>

namespace cooper::http {
namespace {

constexpr RetryPolicy kQuick{.attempts = 4, .first_delay = std::chrono::milliseconds(1)};

std::string text_of(Response& response) { return read_all(*response.body, 64u << 20).value_or("<error>"); }

TEST(Url, Parses) {
    const auto url = Url::parse("HTTPS://u:p@Example.COM:8443/a/b?q=1#frag");
    ASSERT_TRUE(url);
    EXPECT_EQ(url->host, "example.com");
    EXPECT_EQ(url->port, 8443);
    EXPECT_EQ(url->to_string(), "https://u:p@example.com:8443/a/b?q=1");
    EXPECT_EQ(printable("https://u:p@h/a?secret=1"), "https://h/a");
    EXPECT_EQ(Url::parse("http://[::1]:80/")->to_string(), "http://[::1]/");
    for (const char* bad : {"", "ftp://x/", "http://", "http://x:0/", "http://x:99999/", "http://a b/", "x",
                            "http://x/\r\nHost: y", "http://[::1"}) {
        EXPECT_FALSE(Url::parse(bad)) << bad;
    }
}

TEST(Url, ResolvesRelativeReferences) {
    const Url base = *Url::parse("http://h/a/b/c?q");
    const std::map<std::string, std::string> cases{{"d", "http://h/a/b/d"},        {"/x?y", "http://h/x?y"},
                                                   {"../z", "http://h/a/z"},       {"//o/p", "http://o/p"},
                                                   {"https://s/", "https://s/"},   {"?n", "http://h/a/b/c?n"},
                                                   {"../../../../e", "http://h/e"}};
    for (const auto& [in, out] : cases) EXPECT_EQ(resolve(base, in)->to_string(), out);
    EXPECT_FALSE(resolve(base, "file:///etc/passwd"));
}

TEST(Proxy, FollowsGoRules) {
    std::map<std::string, std::string> env{
        {"HTTP_PROXY", "p:1"},
        {"https_proxy", "http://q:2"},
        {"NO_PROXY", "corp.example, .only.sub,10.0.0.0/8,[fd00::1]:99,x:81,192.168.1.1"}};
    const auto settings = ProxySettings::from_environment([&](const std::string& name) { return env[name]; });
    EXPECT_EQ(settings.proxy_for("http://a/"), "http://p:1");
    EXPECT_EQ(settings.proxy_for("https://a/"), "http://q:2");
    EXPECT_EQ(settings.proxy_for("http://localhost:5000/"), "");
    EXPECT_EQ(settings.proxy_for("http://127.3.2.1/"), "");
    EXPECT_EQ(settings.proxy_for("http://[::1]/"), "");
    EXPECT_EQ(settings.proxy_for("http://corp.example/"), "");
    EXPECT_EQ(settings.proxy_for("http://a.corp.example/"), "");
    EXPECT_EQ(settings.proxy_for("http://notcorp.example/"), "http://p:1");
    EXPECT_EQ(settings.proxy_for("http://only.sub/"), "http://p:1");
    EXPECT_EQ(settings.proxy_for("http://a.only.sub/"), "");
    EXPECT_EQ(settings.proxy_for("http://10.9.8.7/"), "");
    EXPECT_EQ(settings.proxy_for("http://11.9.8.7/"), "http://p:1");
    EXPECT_EQ(settings.proxy_for("http://192.168.1.1/"), "");
    EXPECT_EQ(settings.proxy_for("http://x:81/"), "");
    EXPECT_EQ(settings.proxy_for("http://x:82/"), "http://p:1");
    EXPECT_EQ(ProxySettings{}.proxy_for("http://a/"), "");
}

TEST(Retry, Delays) {
    const RetryPolicy policy{
        .attempts = 9, .first_delay = std::chrono::milliseconds(100), .max_delay = std::chrono::milliseconds(1500)};
    EXPECT_EQ(retry_delay(policy, 1, nullptr).count(), 100);
    EXPECT_EQ(retry_delay(policy, 3, nullptr).count(), 400);
    EXPECT_EQ(retry_delay(policy, 30, nullptr).count(), 1500);
    Headers headers;
    headers.add("retry-after", "1");
    EXPECT_EQ(retry_delay(policy, 1, &headers).count(), 1000);
    headers.set("retry-after", "99999999999999");
    EXPECT_EQ(retry_delay(policy, 1, &headers).count(), 1000);
    headers.set("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT");
    EXPECT_EQ(retry_delay(policy, 1, &headers).count(), 100);
}

class ClientTest : public ::testing::Test {
protected:
    Client client_{ClientOptions{.user_agent = "cooper-test"}};
    Stop stop_;
};

TEST_F(ClientTest, GetsStreamsAndReusesConnections) {
    std::string big(3u << 20, 'x');
    for (std::size_t i = 0; i < big.size(); i += 1000) big[i] = static_cast<char>('a' + i % 26);
    FakeServer server([&](const FakeRequest& request) {
        FakeResponse response{.body = request.target == "/big" ? big : "hello"};
        response.headers.add("X-One", "1");
        return response;
    });
    Request request{.url = server.url() + "/small?q"};
    request.headers.add("X-Empty", "");
    auto response = client_.send(request, stop_);
    ASSERT_TRUE(response) << response.error().to_string();
    EXPECT_EQ(response->status, 200);
    EXPECT_EQ(response->headers.find("x-one"), "1");
    EXPECT_EQ(text_of(*response), "hello");
    response->body.reset();
    const FakeRequest seen = server.requests().at(0);
    EXPECT_EQ(seen.target, "/small?q");
    EXPECT_EQ(seen.headers.find("User-Agent"), "cooper-test");
    EXPECT_EQ(seen.headers.find("X-Empty"), "");

    auto large = client_.send(Request{.url = server.url() + "/big"}, stop_);
    ASSERT_TRUE(large);
    EXPECT_EQ(text_of(*large), big);
}

TEST_F(ClientTest, SendsBodiesInEveryMethod) {
    FakeServer server([](const FakeRequest& request) { return FakeResponse{.body = request.method + request.body}; });
    for (const Method method : {Method::post, Method::put, Method::patch}) {
        Request request{.method = method, .url = server.url() + "/", .body = text_body("payload")};
        auto response = client_.send(request, stop_);
        ASSERT_TRUE(response);
        EXPECT_EQ(text_of(*response), std::string(method_name(method)) + "payload");
        request.body->size_bytes.reset();
        response = client_.send(request, stop_);
        EXPECT_EQ(text_of(*response), std::string(method_name(method)) + "payload");
        request.body.reset();
        response = client_.send(request, stop_);
        EXPECT_EQ(text_of(*response), std::string(method_name(method)));
    }
    auto head = client_.send(Request{.method = Method::head, .url = server.url() + "/"}, stop_);
    ASSERT_TRUE(head);
    EXPECT_EQ(head->headers.find("content-length"), "4");
    EXPECT_EQ(text_of(*head), "");
    auto del = client_.send(Request{.method = Method::del, .url = server.url() + "/"}, stop_);
    EXPECT_EQ(text_of(*del), "DELETE");
}

TEST_F(ClientTest, RedirectsKeepSecretsAtHome) {
    FakeServer other([](const FakeRequest& request) {
        return FakeResponse{.body = request.headers.find("Authorization").value_or("none")};
    });
    FakeServer server([&](const FakeRequest& request) {
        FakeResponse response{.status = 307};
        if (request.target == "/away") response.headers.add("Location", other.url() + "/there");
        if (request.target == "/near") response.headers.add("Location", "home");
        if (request.target == "/loop") response.headers.add("Location", "/loop");
        if (request.target == "/see") {
            response.status = 303;
            response.headers.add("Location", "/home");
        }
        if (request.target == "/home") {
            return FakeResponse{.body = request.method + request.headers.find("Authorization").value_or("none")};
        }
        return response;
    });
    const auto get = [&](const std::string& path, Method method) {
        Request request{.method = method, .url = server.url() + path};
        request.headers.add("Authorization", "secret");
        if (method == Method::post) request.body = text_body("x");
        auto response = client_.send(request, stop_);
        return response ? text_of(*response) : response.error().to_string();
    };
    EXPECT_EQ(get("/away", Method::get), "none");
    EXPECT_EQ(get("/near", Method::get), "GETsecret");
    EXPECT_EQ(get("/near", Method::post), "POSTsecret");
    EXPECT_EQ(get("/see", Method::post), "GETsecret");
    EXPECT_NE(get("/loop", Method::get).find("redirects"), std::string::npos);
    Request refuse{.url = server.url() + "/near", .redirects = Redirects::refuse};
    EXPECT_EQ(client_.send(refuse, stop_)->status, 307);
}

TEST_F(ClientTest, RetriesStatusAndBrokenConnections) {
    std::atomic<int> calls = 0;
    FakeServer server([&](const FakeRequest& request) {
        const int n = ++calls;
        if (request.target == "/404") return FakeResponse{.status = 404};
        if (request.target == "/503") return FakeResponse{.status = 503, .body = "busy"};
        if (n == 1) return FakeResponse{.status = 429};
        if (n == 2) return FakeResponse{.drop = true};
        return FakeResponse{.body = request.body};
    });
    const Request post{.method = Method::post, .url = server.url() + "/", .body = text_body("again")};
    auto response = client_.send_with_retry(post, kQuick, stop_);
    ASSERT_TRUE(response) << response.error().to_string();
    EXPECT_EQ(text_of(*response), "again");
    EXPECT_EQ(calls, 3);
    EXPECT_EQ(client_.send_with_retry(Request{.url = server.url() + "/404"}, kQuick, stop_)->status, 404);
    EXPECT_EQ(calls, 4);
    auto busy = client_.send_with_retry(Request{.url = server.url() + "/503"}, kQuick, stop_);
    ASSERT_TRUE(busy);
    EXPECT_EQ(busy->status, 503);
    EXPECT_EQ(text_of(*busy), "busy");
    EXPECT_EQ(calls, 8);
}

TEST_F(ClientTest, ReportsWhatBreaks) {
    FakeServer server([](const FakeRequest&) { return FakeResponse{.body = "0123456789", .cut_after = 4}; });
    auto cut = client_.send(Request{.url = server.url() + "/"}, stop_);
    ASSERT_TRUE(cut);
    const auto text = read_all(*cut->body, 100);
    ASSERT_FALSE(text);
    EXPECT_EQ(text.error().code(), Code::unavailable);
    EXPECT_TRUE(is_retryable(text.error()));

    std::string gone;
    {
        FakeServer brief([](const FakeRequest&) { return FakeResponse{}; });
        gone = brief.url();
    }
    const auto refused = client_.send(Request{.url = gone + "/x?token=1"}, stop_);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), Code::unavailable);
    EXPECT_FALSE(refused.error().hint().empty());
    EXPECT_EQ(refused.error().to_string().find("token"), std::string::npos);
    Request injected{.url = server.url() + "/"};
    injected.headers.add("X", "a\r\nY: b");
    EXPECT_FALSE(client_.send(injected, stop_));
    EXPECT_FALSE(client_.send(Request{.url = "file:///etc/passwd"}, stop_));
}

TEST_F(ClientTest, StopEndsAWaitForTheHeadAndForTheBody) {
    FakeServer server([](const FakeRequest& request) {
        return FakeResponse{.body = "0123456789", .cut_after = request.target == "/body" ? 4 : 0, .hang = true};
    });
    StopSource source;
    auto response = client_.send(Request{.url = server.url() + "/body"}, source.get_token());
    ASSERT_TRUE(response);
    std::byte four[4];
    ASSERT_TRUE(response->body->read(four));
    std::jthread stopper([&] { source.request_stop(); });
    const auto rest = read_all(*response->body, 100);
    ASSERT_FALSE(rest);
    EXPECT_TRUE(rest.error().is_cancelled());
    EXPECT_TRUE(client_.send(Request{.url = server.url() + "/"}, source.get_token()).error().is_cancelled());
    EXPECT_TRUE(wait_for(std::chrono::hours(1), source.get_token()).error().is_cancelled());
}

TEST_F(ClientTest, SpeaksToUnixSockets) {
    std::string dir = ::testing::TempDir() + "httpXXXXXX";
    ASSERT_NE(mkdtemp(dir.data()), nullptr);
    {
        FakeServer server([](const FakeRequest& request) { return FakeResponse{.body = "unix " + request.target}; },
                          dir + "/s");
        auto response = client_.send(Request{.url = "http://localhost/x", .unix_socket = dir + "/s"}, stop_);
        ASSERT_TRUE(response) << response.error().to_string();
        EXPECT_EQ(text_of(*response), "unix /x");
    }
    rmdir(dir.c_str());
}

TEST_F(ClientTest, ManyThreadsAtOnce) {
    FakeServer server([](const FakeRequest& request) { return FakeResponse{.body = request.target}; });
    std::atomic<int> good = 0;
    {
        std::vector<std::jthread> threads;
        for (int t = 0; t < 8; ++t) {
            threads.emplace_back([&, t] {
                for (int i = 0; i < 10; ++i) {
                    const std::string path = fmt::format("/{}/{}", t, i);
                    auto response = client_.send(Request{.url = server.url() + path}, stop_);
                    if (response && text_of(*response) == path) ++good;
                }
            });
        }
    }
    EXPECT_EQ(good, 80);
}

}  // namespace
}  // namespace cooper::http
