import logging


def warnings_of(log):
    return [record.getMessage() for record in log.records if record.levelno == logging.WARNING]
