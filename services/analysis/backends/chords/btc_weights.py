"""The origin of BTC's published weights. Loads nothing."""

from services.common.weights.store import WeightFile, Weights

LARGE_VOCABULARY = Weights(
    "btc",
    (
        WeightFile(
            "btc/btc_model_large_voca.pt",
            "https://raw.githubusercontent.com/jayg996/BTC-ISMIR19/master/test/btc_model_large_voca.pt",
            "git-blob-sha1:11c6edbaaaee33737aa7a41dcb9044191630326f",
        ),
    ),
)
