"""A PySpark job: count the words of a text and write them beside it. Arguments: the text's URI, a folder's URI."""

import sys

from pyspark.sql import SparkSession
from pyspark.sql.functions import col, explode, split


def main(text: str, folder: str) -> None:
    spark = SparkSession.builder.getOrCreate()
    words = spark.read.text(text).select(explode(split(col("value"), r"\W+")).alias("word")).where("word != ''")
    counts = words.groupBy("word").count().orderBy(col("count").desc(), "word").coalesce(1).cache()
    counts.write.mode("overwrite").csv(folder)
    for row in counts.take(3):
        print(row["word"], row["count"])


if __name__ == "__main__":
    main(*sys.argv[1:])
