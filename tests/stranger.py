"""The interface as its description has it: nothing here comes from the package's own file."""

PROTO = """
syntax = "proto3";
message PredictRequest { bytes image_data = 1; bool all_categories = 2; bool all_attributes = 3; }
message Correspondence { string label = 1; double value = 2; }
message PredictResponse {
  repeated Correspondence categories = 2;
  repeated Correspondence attributes = 3;
}
message Prediction {
  repeated Correspondence categories = 1;
  repeated Correspondence attributes = 2;
}
message StreamPredictResponse { repeated Prediction predictions = 1; }
service TagMyOutfitService {
  rpc predict(PredictRequest) returns (PredictResponse);
  rpc stream_predict(stream PredictRequest) returns (StreamPredictResponse);
}
"""
