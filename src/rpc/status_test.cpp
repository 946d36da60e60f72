#include "rpc/status.hpp"

#include "proto/status.pb.h"

#include <grpcpp/support/status.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace cooper::rpc {

namespace {

google::rpc::Status message_in(const grpc::Status& status) {
    google::rpc::Status message;
    EXPECT_TRUE(message.ParseFromString(status.error_details()));
    return message;
}

Error failed_step() {
    return fail(Code::unknown, Blame::user, "process \"/bin/sh -c false\" did not complete successfully: exit code: 3")
        .with_detail(SourceRange{"Dockerfile", 2, 3, 0, 0})
        .with_detail(SourceText{"Dockerfile", "Dockerfile", std::make_shared<const std::string>("FROM a\nRUN false\n")})
        .with_detail(FailedVertex{"sha256:0a"})
        .with_detail(ExitStatus{3, false})
        .with_context("solve");
}

}  // namespace

TEST(Status, DetailsAreJsonUnderBuildKitsNames) {
    const auto message = message_in(to_status(failed_step()));
    EXPECT_EQ(message.code(), 2);
    EXPECT_EQ(message.message(), "solve: process \"/bin/sh -c false\" did not complete successfully: exit code: 3");
    ASSERT_EQ(message.details_size(), 3);
    EXPECT_EQ(message.details(0).type_url(), "github.com/moby/buildkit/errdefs.Source+json");
    EXPECT_EQ(message.details(0).value(),
              R"({"info":{"filename":"Dockerfile","data":"RlJPTSBhClJVTiBmYWxzZQo=","language":"Dockerfile"},)"
              R"("ranges":[{"start":{"line":2},"end":{"line":3}}]})");
    EXPECT_EQ(message.details(1).type_url(), "github.com/moby/buildkit/errdefs.Vertex+json");
    EXPECT_EQ(message.details(1).value(), R"({"digest":"sha256:0a"})");
    EXPECT_EQ(message.details(2).type_url(), "github.com/moby/buildkit/gatewayapi.ExitMessage+json");
    EXPECT_EQ(message.details(2).value(), R"({"Code":3})");
}

TEST(Status, WhatGoesInComesBack) {
    const Error back = from_status(to_status(failed_step().with_hint("look at line 2")));
    EXPECT_EQ(back.code(), Code::unknown);
    EXPECT_EQ(back.to_string(), failed_step().to_string());
    EXPECT_EQ(back.hint(), "look at line 2");
    ASSERT_NE(back.find_detail<SourceRange>(), nullptr);
    EXPECT_EQ(back.find_detail<SourceRange>()->last_line, 3);
    ASSERT_NE(back.find_detail<SourceText>(), nullptr);
    EXPECT_EQ(*back.find_detail<SourceText>()->text, "FROM a\nRUN false\n");
    EXPECT_EQ(back.find_detail<FailedVertex>()->digest, "sha256:0a");
    EXPECT_EQ(back.find_detail<ExitStatus>()->code, 3);
}

TEST(Status, ClientsOfOthersReadTheHintBehindTheMessage) {
    const auto status = to_status(bad_input("no such stage: buidl").with_hint("did you mean build?"));
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(status.error_message(), "no such stage: buidl (did you mean build?)");
}

TEST(Status, EveryCodeSurvives) {
    for (int code = 1; code <= 16; ++code) {
        const Error error(static_cast<Code>(code), Blame::user, "x");
        EXPECT_EQ(from_status(to_status(error)).code(), error.code());
    }
    EXPECT_EQ(from_status(grpc::Status(static_cast<grpc::StatusCode>(77), "odd")).code(), Code::unknown);
}

TEST(Status, BytesThatAreNoTextBecomeText) {
    const auto status = to_status(bad_input("path a\xff{}", "\xc3"));
    EXPECT_EQ(status.error_message(), "path a\xef\xbf\xbd\xef\xbf\xbd");
}

TEST(Status, MalformedDetailsAreDropped) {
    google::rpc::Status message;
    message.set_code(5);
    message.set_message("gone");
    const std::string prefix = "github.com/moby/buildkit/errdefs.";
    for (const char* json :
         {"", "{", "[]", R"({"info":7,"ranges":{}})", R"({"info":{"filename":[]},"ranges":[7,{"start":7}]})",
          R"({"info":{"filename":"f","data":"%%"},"ranges":[{"start":{"line":1e300}}]})", R"({"digest":{}})"}) {
        for (const char* name : {"Source+json", "Vertex+json", "Unknown+json"}) {
            auto* any = message.add_details();
            any->set_type_url(prefix + name);
            any->set_value(json);
        }
    }
    message.add_details()->set_type_url("");
    const Error error = from_message(message);
    EXPECT_EQ(error.code(), Code::not_found);
    EXPECT_EQ(error.to_string(), "gone");
    EXPECT_EQ(from_status(grpc::Status(grpc::StatusCode::NOT_FOUND, "gone", "\xff\xff")).to_string(), "gone");
}

TEST(Status, FailedOperationsArePrintedAsProtojson) {
    // pb.Op{source: {identifier: "docker-image://a"}}
    const std::string op = std::string("\x1a\x12\x0a\x10", 4) + "docker-image://a";
    const auto detail = to_detail({.op = op, .input_ids = {"i1"}, .mount_ids = {"m1", "m2"}});
    ASSERT_TRUE(detail) << detail.error().to_string();
    EXPECT_EQ(detail->name, "errdefs.Solve");
    const auto json = nlohmann::json::parse(detail->json);
    EXPECT_EQ(json["inputIDs"][0], "i1");
    EXPECT_EQ(json["mountIDs"][1], "m2");
    EXPECT_EQ(json["op"]["source"]["identifier"], "docker-image://a");
    EXPECT_FALSE(to_detail({.op = "\xff\xff", .input_ids = {}, .mount_ids = {}}));
}

}  // namespace cooper::rpc
